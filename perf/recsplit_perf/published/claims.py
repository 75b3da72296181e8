"""Numbers in the docs, held to perf/results by docs/claims.toml: `python -m recsplit_perf.published.claims`; `--write` mends the pages.

A claim is a piece of a page word for word, with a path into a results file in braces where the page has a number, so that the page stays
as its readers see it, where comments inside of tables would bury them. How a number is rounded is read off the page itself (as many
decimals as it shows), so that a claim has nothing else to keep up, and a maintainer mends it by copying the line anew. All claims are in
one file because a new measurement moves many pages at once: then one command names, or rewrites, all of them.
"""

import argparse
import importlib
import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from recsplit_perf.published.json_paths import evaluate

CHECKOUT = Path(__file__).resolve().parents[3]
CLAIMS = Path("docs/claims.toml")
RESULTS = Path("perf/results")

#: A commit, or a number as the docs write it: 1,027 or 0.27 or 1e-6.
_NUMBER = r"([0-9a-f]{7,40}(?![\w.,])|[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)"
_HOLE = re.compile(r"\{([^{}]+)\}")
_ROUNDING = {"": ROUND_HALF_UP, "up": ROUND_CEILING, "down": ROUND_FLOOR}


@dataclass(frozen=True)
class Claim:
    """`text` stands on `page` once, with numbers of `file` where it has expressions in braces; `under`: where their paths begin."""

    page: str
    file: str
    text: str
    under: str = ""

    @property
    def expressions(self) -> list[str]:
        """What is in braces, in order: `path`, or `path | up` where the page rounds up, as behind "at most"."""
        return _HOLE.findall(self.text)

    def pattern(self) -> re.Pattern[str]:
        """The text with a number at every brace; lines may be broken elsewhere."""
        literals = _HOLE.split(self.text.strip())[::2]
        return re.compile(_NUMBER.join(r"\s+".join(re.escape(word) for word in re.split(r"\s+", literal)) for literal in literals))


def read(checkout: Path = CHECKOUT) -> list[Claim]:
    """All claims of a checkout. Raises TypeError where one has a key that is none."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    pages = toml.loads((checkout / CLAIMS).read_text(encoding="utf-8"))
    return [Claim(page, **entry) for page, entries in pages.items() for entry in entries]


def problems(claim: Claim, checkout: Path = CHECKOUT) -> list[str]:
    """What is wrong with a claim, in sentences that name page and number; empty where it holds."""
    return list(_problems(claim, checkout))


def _problems(claim: Claim, checkout: Path) -> Iterator[str]:
    if not claim.expressions:
        yield f"{claim.page}: nothing in braces in {claim.text.strip()!r}"
        return
    path = checkout / RESULTS / claim.file
    if not path.is_file():
        yield f"{claim.page}: there is no {RESULTS / claim.file}"
        return
    result = json.loads(path.read_text())
    matches = list(claim.pattern().finditer((checkout / claim.page).read_text(encoding="utf-8")))
    shown = list(matches[0].groups()) if len(matches) == 1 else []
    if not shown:
        yield f"{claim.page}: this text stands there {len(matches)} times, not once: {claim.text.strip()!r}"
    for expression, number in itertools.zip_longest(claim.expressions, shown):
        try:
            right = as_written(_value(result, claim, expression), number or "0", expression)
        except LookupError as error:
            yield f"{claim.page}: {claim.file} has no {expression!r}: {error.args[0]}"
            continue
        if number is not None and right != number:
            yield f"{claim.page} says {number}, {claim.file} {right} ({expression}), in {' '.join(matches[0][0].split())!r}"


def _value(result: Any, claim: Claim, expression: str) -> str | float:
    return evaluate(result, expression.partition(" | ")[0].strip(), under=claim.under)


def as_written(value: str | float, shown: str, expression: str = "") -> str:
    """A value of a file as the page shows it: with as many decimals as `shown` has, or as many digits of a commit.

    Raises LookupError where the expression ends in a way to round that is none.
    """
    if isinstance(value, str):
        return value[: len(shown)]
    unit = Decimal(1).scaleb(int(Decimal(shown.replace(",", "")).as_tuple().exponent))
    way = expression.partition(" | ")[2].strip()
    if way not in _ROUNDING:
        raise LookupError(f"rounding is up or down, not {way!r}")
    rounded = Decimal(f"{value:.12g}").quantize(unit, _ROUNDING[way])  # 12 digits: 100 * 0.07 is 7, and not a bit more
    if "e" in shown:
        digits = len(shown.partition("e")[0].partition(".")[2])
        mantissa, _, exponent = f"{rounded:.{digits}e}".partition("e")
        return f"{mantissa}e{int(exponent):0{len(shown.partition('e')[2])}d}"
    return f"{rounded:,f}" if "," in shown or abs(rounded) >= 1000 else f"{rounded:f}"


def rewritten(page: str, claims: Sequence[Claim], checkout: Path = CHECKOUT) -> str:
    """A page's text with every claimed number as its file has it; what no longer stands there is left alone."""
    text = (checkout / page).read_text(encoding="utf-8")
    for claim in claims:
        matches = list(claim.pattern().finditer(text)) if claim.page == page else []
        if len(matches) != 1:
            continue
        match = matches[0]
        result = json.loads((checkout / RESULTS / claim.file).read_text())
        for number in range(len(claim.expressions), 0, -1):  # from behind, so that earlier places stay true
            expression = claim.expressions[number - 1]
            value = as_written(_value(result, claim, expression), match[number], expression)
            text = text[: match.start(number)] + value + text[match.end(number) :]
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Name every number that differs from its file; with --write mend the pages. The exit code: 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m recsplit_perf.published.claims", description="Hold the docs' numbers to perf/results.")
    parser.add_argument("--write", action="store_true", help="Rewrite the numbers of the pages as the files have them.")
    write, claims = parser.parse_args(arguments).write, read()
    for page in sorted({claim.page for claim in claims}) if write else ():
        (CHECKOUT / page).write_text(rewritten(page, claims), encoding="utf-8")
    wrong = [problem for claim in claims for problem in problems(claim)]
    sys.stdout.writelines(f"{problem}\n" for problem in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
