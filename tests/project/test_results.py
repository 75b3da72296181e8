"""What was measured is what the docs say: numbers on the pages are those of perf/results, and every file there has its row in the index."""

import json
import re
from pathlib import Path

import pytest

from recsplit.capacity.profile import Fit
from recsplit_perf.benchmarks import zoo
from recsplit_perf.published import claims, json_paths
from recsplit_perf.published import index as results_index
from recsplit_perf.published.claims import Claim
from tests.conftest import REPOSITORY

CLAIMS = claims.read(REPOSITORY)
RESULTS = sorted((REPOSITORY / claims.RESULTS).glob("*.json"))
#: Written by benchmarks as a whole, numbers and all.
GENERATED = {"docs/elasticrec.md", "docs/infadapter.md", "docs/zoo_measured.md"}
PAGES = sorted({str(page.relative_to(REPOSITORY)) for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]} - GENERATED)

PAGE = """# A page

It answers 1,027 queries a second,
95 % of them within 5.5 ms (commit 39f01dc).
"""
RESULT = {"commit": "39f01dcc6ea738fe", "systems": [{"system": "whole", "per_s": 1027.4, "p95_ms": 5.46}, {"system": "cut", "per_s": 3.0}]}
TEXT = "It answers {systems[system=whole].per_s} queries a second, 95 % of them within {systems[0].p95_ms} ms (commit {commit})."


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of one page and one results file."""
    (tmp_path / claims.RESULTS).mkdir(parents=True)
    (tmp_path / claims.RESULTS / "speed.json").write_text(json.dumps(RESULT))
    (tmp_path / "page.md").write_text(PAGE)
    return tmp_path


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.page}: {' '.join(claim.text.split())[:60]}")
def test_a_number_of_the_docs_is_that_of_its_results_file(claim: Claim) -> None:
    assert not claims.problems(claim, REPOSITORY), "the file is right: mend the page, or `python -m recsplit_perf.published.claims --write`"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_names_a_results_file_has_claims_of_it(page: str) -> None:
    named = set(re.findall(r"perf/results/(\w+\.json)", (REPOSITORY / page).read_text()))
    assert named <= {claim.file for claim in CLAIMS if claim.page == page}, f"give the numbers of {page} claims in {claims.CLAIMS}"


def test_the_measured_zoo_is_what_its_results_file_makes() -> None:
    result = json.loads((REPOSITORY / claims.RESULTS / "zoo.json").read_text())
    parts = ("whole", "embedding", "dense")
    rows = [zoo.Row(**{**model, **{part: Fit(**model[part]) for part in parts}}) for model in result["models"]]
    assert (REPOSITORY / "docs" / "zoo_measured.md").read_text() == zoo.markdown(rows, result)


def test_the_index_of_results_is_current() -> None:
    assert (REPOSITORY / results_index.PAGE).read_text() == results_index.text(REPOSITORY), f"{results_index.PAGE} is stale: make docs"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_every_results_file_has_a_row_that_says_what_it_measures(path: Path) -> None:
    (row,) = [line for line in (REPOSITORY / results_index.PAGE).read_text().splitlines() if line.startswith(f"| [{path.name}](")]
    assert row.split(" | ")[1] != results_index.ABSENT


def test_what_a_results_file_does_not_hold_is_not_recorded(checkout: Path) -> None:
    cells = results_index.row(checkout / claims.RESULTS / "speed.json", checkout)
    assert cells == ("[speed.json](speed.json)", *["not recorded"] * 4, "39f01dc")


def test_a_claim_holds_wherever_lines_break_and_however_many_decimals_the_page_shows(checkout: Path) -> None:
    assert claims.problems(Claim("page.md", "speed.json", TEXT), checkout) == []


def test_a_number_that_differs_from_its_file_is_named(checkout: Path) -> None:
    (checkout / "page.md").write_text(PAGE.replace("1,027", "1,072"))
    (problem,) = claims.problems(Claim("page.md", "speed.json", TEXT), checkout)
    assert problem.startswith("page.md says 1,072, speed.json 1,027 (systems[system=whole].per_s), in 'It answers 1,072 queries")


def test_a_commit_that_is_not_the_files_is_named(checkout: Path) -> None:
    (checkout / "page.md").write_text(PAGE.replace("39f01dc", "adf9b49"))
    (problem,) = claims.problems(Claim("page.md", "speed.json", TEXT), checkout)
    assert problem.startswith("page.md says adf9b49, speed.json 39f01dc")


def test_a_claim_whose_text_is_gone_or_stands_twice_is_named(checkout: Path) -> None:
    claim = Claim("page.md", "speed.json", TEXT)
    (checkout / "page.md").write_text(PAGE.replace("answers", "serves"))
    assert "stands there 0 times" in claims.problems(claim, checkout)[0]
    (checkout / "page.md").write_text(2 * PAGE)
    assert "stands there 2 times" in claims.problems(claim, checkout)[0]


@pytest.mark.parametrize(
    "path", ["systems[system=other].per_s", "systems[7].per_s", "systems[system=cut].p95_ms", "systems[*].per_s", "nothing"]
)
def test_a_path_that_leads_nowhere_or_to_several_values_is_named(path: str, checkout: Path) -> None:
    (problem,) = claims.problems(Claim("page.md", "speed.json", f"It answers {{{path}}} queries"), checkout)
    assert problem.startswith(f"page.md: speed.json has no {path!r}")


def test_a_file_that_is_not_there_is_named(checkout: Path) -> None:
    assert claims.problems(Claim("page.md", "other.json", TEXT), checkout) == ["page.md: there is no perf/results/other.json"]


def test_pages_are_rewritten_from_their_files(checkout: Path) -> None:
    claim = Claim("page.md", "speed.json", TEXT)
    (checkout / "page.md").write_text(PAGE.replace("1,027", "204").replace("5.5", "33.1").replace("39f01dc", "adf9b49"))
    assert claims.rewritten("page.md", [claim], checkout) == PAGE


@pytest.mark.parametrize(
    ("value", "shown", "expression", "written"),
    [
        (0.1877, "0.27", "x | up", "0.19"),
        (0.1877, "0.27", "x | down", "0.18"),
        (9.6e-7, "2e-6", "x", "1e-6"),
        (1e8, "2e8", "x", "1e8"),
        (2.5, "2", "x", "3"),
        (100 * 0.07, "9", "100 * x | up", "7"),
        (12345.6, "5", "x", "12,346"),
        (0, "3", "x", "0"),
    ],
)
def test_numbers_are_rounded_as_the_page_shows_them(value: float, shown: str, expression: str, written: str) -> None:
    assert claims.as_written(value, shown, expression) == written


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("sum cases[*].n", 9),
        ("sum cases[*].n - cases[case=a & n=2].n", 7),
        ("max cases[case=a or b].n", 4),
        ("largest off[*] * 100", 50),
        ("off[-1] * -100 + 100", 150),
        ("seen after pod", 12),
        ("count cases[*]", 3),
    ],
)
def test_paths_choose_and_reckon(expression: str, value: float) -> None:
    cases = [{"case": "a", "n": 2}, {"case": "b", "n": 4}, {"case": "c", "n": 3}]
    document = {"cases": cases, "off": [0.1, -0.5], "seen": "in place 7, pod 12"}
    assert json_paths.evaluate(document, expression) == value
