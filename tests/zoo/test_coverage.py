"""The coverage table: what counts as equal, and how the page says it."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from recsplit_perf.benchmarks.coverage import ROUTES, Row, cover, markdown, totals, why

GOOD = Row("recsplit.zoo.tiny:dlrm", "factory", True, True, 3, 3, 2e-7, None, (), "", 1.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"error": 2e-5}, "differs from torch by 2.0e-05"),
        ({"error": None, "reason": "the parts fail: X"}, "the parts fail: X"),
        ({"tables": 2}, "2 of 3 tables"),
        ({"operators_left": ("Loop",)}, "left: Loop"),
        ({"cut": False, "error": None, "reason": "no lookup"}, "no lookup"),
        (
            {"cut": False, "error": None, "reason": "refused", "file_error": 3.0},
            "refused (the exported file itself differs from torch by 3.0e+00)",
        ),
        ({"exported": False, "cut": False, "error": None, "reason": "KeyError: x"}, "torch can't export: KeyError: x"),
    ],
)
def test_a_row_that_is_not_equal_says_why(change: dict[str, object], reason: str) -> None:
    row = dataclasses.replace(GOOD, **change)  # type: ignore[arg-type]
    assert GOOD.equal and not row.equal
    assert why(row) == reason


def test_the_share_is_of_what_torch_could_export() -> None:
    rows = [GOOD, dataclasses.replace(GOOD, cut=False), dataclasses.replace(GOOD, exported=False, cut=False)]
    assert totals(rows) == "1 of 2 cut and equal (50.0 %); 1 more could not be exported by torch"


def test_the_page_has_a_row_a_model_and_a_note_for_what_is_missing() -> None:
    rows = [dataclasses.replace(GOOD, route=route) for route in ROUTES]
    rows[1] = dataclasses.replace(rows[1], exported=False, cut=False, error=None, reason="RuntimeError: a_b <c>")
    page = markdown(rows)
    assert "| tiny:dlrm | 3 | 2e-07 | no export [1] | 2e-07 | 2e-07 |" in page
    assert "1. tiny:dlrm, .pt2: torch can't export: RuntimeError: a\\_b \\<c>" in page
    assert "**3 of 3 cut and equal (100.0 %); 1 more could not be exported by torch.**" in page


@pytest.mark.slow
def test_the_tiny_model_is_cut_and_equal_through_every_route(tmp_path: Path) -> None:
    done: list[int] = []
    rows = list(cover([GOOD.model], tmp_path, jobs=1, advance=done.append))
    assert [row.route for row in rows] == list(ROUTES)
    assert all(row.equal for row in rows), json.dumps([why(row) for row in rows])
    assert done == [len(ROUTES)]


def test_a_crash_costs_one_model_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    rows = list(cover([GOOD.model], tmp_path, jobs=1, advance=lambda count: None))
    assert len(rows) == len(ROUTES) and not any(row.equal for row in rows)
    assert why(rows[0]) == "torch can't export: the process ended with exit status 1: nothing was said"
