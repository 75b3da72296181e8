"""perf/results/README.md, made of the files beside it: `python -m recsplit_perf.published.index`; with `--check` it only compares.

Each file says where it comes from (machine.py); what it measures is said by the docstring of the command that wrote it. Nothing is
made up: what a file doesn't hold is "not recorded".
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
RESULTS = Path("perf/results")
PAGE = RESULTS / "README.md"
ABSENT = "not recorded"
COLUMNS = ("file", "what it measures", "command", "date", "machine", "commit")

HEAD = """\
# Results

Written by `make docs` (`python -m recsplit_perf.published.index`) from the files beside it; do not edit. Each row says what its file itself
holds; a `+` behind a commit: files differed from it. Numbers in the docs are held to these files by
[docs/claims.toml](../../docs/claims.toml).

"""


def text(checkout: Path = CHECKOUT) -> str:
    """The whole page, a row for each results file of a checkout."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(row(path, checkout) for path in sorted((checkout / RESULTS).glob("*.json")))]
    return HEAD + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(path: Path, checkout: Path) -> tuple[str, ...]:
    """The cells of one file, as COLUMNS names them."""
    result = json.loads(path.read_text())
    parts = origins(result)
    commands = [part.get("command") for part in parts]
    subject = next((line for command in commands if command and (line := subject_of(command, checkout))), "")
    return (
        f"[{path.name}]({path.name})",
        subject or subject_of(f"python -m recsplit_perf.benchmarks.{path.stem}", checkout) or ABSENT,
        cell(f"`{command}`" if command else None for command in commands),
        cell(part.get("date") for part in parts),
        cell(machine(part.get("machine")) for part in parts),
        cell(short(part.get("commit")) for part in parts),
    )


def origins(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where a result says that it comes from: it itself, its `provenance` (a profile), or each of its `parts` that were measured apart."""
    parts = result.get("parts")
    if isinstance(parts, Mapping):
        return list(parts.values())
    provenance: Mapping[str, Any] = result.get("provenance", result)
    return [provenance]


def subject_of(command: str, checkout: Path) -> str:
    """What the docstring of a command says that it does, up to how it is called; "" where the command has no docstring here."""
    words = command.rpartition("python -m ")[2].split()  # settings of the environment may stand before it
    if not words:
        return ""
    name = f"recsplit.commands.{words[1]}" if Path(words[0]).name == "recsplit" and len(words) > 1 else words[0].removesuffix(".__main__")
    inside = Path(*name.split("."))
    for folder in (checkout / "perf", checkout):
        for file in (folder / inside.with_suffix(".py"), folder / inside / "__init__.py"):
            if file.is_file():
                paragraph = " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n\n")[0].split())
                return re.split(r"(?:: `|(?<=\.) )", paragraph)[0].rstrip(".")
    return ""


def machine(recorded: Mapping[str, Any] | None) -> str | None:
    """CPU, cores, memory and the load that the measurement met, as far as they are recorded."""
    if not recorded:
        return None
    facts = [str(recorded["cpu"])] if recorded.get("cpu") else []
    facts += [f"{recorded[key]} {unit}" for key, unit in (("cores", "cores"), ("memory_gib", "GiB")) if recorded.get(key) is not None]
    facts += [f"load {recorded['load_average'][0]}"] if recorded.get("load_average") else []
    return ", ".join(facts) or None


def short(commit: str | None) -> str | None:
    """The first seven digits, and the mark of files that differed."""
    return f"{commit[:7]}{'+' if commit.endswith('+') else ''}" if commit else None


def cell(values: Iterable[str | None]) -> str:
    """The different values of a file's parts, one under the other."""
    return "<br>".join(dict.fromkeys((value or ABSENT).replace("|", r"\|") for value in values))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with --check tell whether it is stale; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m recsplit_perf.published.index", description="Write perf/results/README.md.")
    parser.add_argument("--check", action="store_true", help="Write nothing; exit with 1 where the page is stale.")
    check, page = parser.parse_args(arguments).check, CHECKOUT / PAGE
    if not check:
        page.write_text(text(), encoding="utf-8")
        sys.stdout.write(f"wrote {page}\n")
    elif not page.exists() or page.read_text(encoding="utf-8") != text():
        sys.stderr.write(f"{PAGE} is stale: make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
