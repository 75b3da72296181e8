"""The benchmark of public libraries, without the libraries: rows, totals, and what counts as equal or as a table."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recsplit_perf.benchmarks.libraries import EQUAL, Row, by_library, markdown, read, totals, why
from recsplit_perf.benchmarks.library_model import by_row
from recsplit_perf.benchmarks.library_models import LEFT_OUT, LIBRARIES
from recsplit_perf.benchmarks.library_models.reads import tables_read
from recsplit_perf.benchmarks.library_models.seeds import Scores, weighted

EQUAL_ROW = Row("recbole", "FM", exported=True, cut=True, error=1e-7, tables=3, tables_read=3)
REFUSED = Row("recbole", "Caser", exported=True, reason="a reason")
NOT_EXPORTED = Row("torch-rechub", "NARM", reason="torch's words")
WRONG = Row("torch-rechub", "DIN", exported=True, cut=True, error=2 * EQUAL)
FAILING = Row("torch-rechub", "BST", exported=True, cut=True, reason="the parts fail: a reason")


def test_totals_count_what_is_equal_of_what_torch_exports() -> None:
    assert totals([EQUAL_ROW, REFUSED, NOT_EXPORTED]) == "1 of 2 cut and equal (50.0 %); 1 more could not be exported by torch"


def test_each_library_has_its_own_totals() -> None:
    sentences = by_library([EQUAL_ROW, REFUSED, NOT_EXPORTED])
    assert list(sentences) == ["recbole", "torch-rechub"]
    assert sentences["torch-rechub"].startswith("0 of 0 cut and equal")


@pytest.mark.parametrize("row", [WRONG, FAILING])
def test_a_cut_that_does_not_answer_as_torch_is_wrong(row: Row) -> None:
    assert row.wrong and not row.equal
    assert why(row).startswith("WRONG: ")


def test_a_refusal_is_not_wrong() -> None:
    assert not REFUSED.wrong and not NOT_EXPORTED.wrong
    assert why(REFUSED) == "a reason"
    assert why(NOT_EXPORTED) == "torch can't export: torch's words"


def test_a_row_comes_back_from_json_as_it_was() -> None:
    row = Row("recbole", "FM", exported=True, left=("a table by Gather: a reason",))
    assert read(json.loads(json.dumps(asdict(row)))) == row


def test_the_page_says_what_was_left_out_and_how_many_are_wrong() -> None:
    page = markdown([EQUAL_ROW, WRONG], {"recbole": {"Pop": "counts clicks"}})
    assert "1 wrong" in page
    assert "* Pop: counts clicks" in page
    assert "| FM | 1e-07 | 3 of 3 |  |" in page


def test_no_model_is_both_tried_and_left_out() -> None:
    assert LIBRARIES.keys() == LEFT_OUT.keys()
    for library, models in LIBRARIES.items():
        assert not models.keys() & LEFT_OUT[library].keys()


def test_a_difference_is_told_by_the_magnitude_of_its_row() -> None:
    source = np.array([[1.0, 0.0], [100.0, 0.0], [100.0, 0.0]], np.float32)
    parts = source.copy()
    parts[1, 1] = 1.0
    assert by_row(source, parts) == pytest.approx(0.01)


def test_a_row_near_zero_is_told_by_the_median_row() -> None:
    source, parts = np.array([[1e-9], [1.0], [1.0]]), np.array([[2e-9], [1.0], [1.0]])
    assert by_row(source, parts) == pytest.approx(1e-9)


@pytest.mark.parametrize("parts", [[np.nan], [np.inf]])
def test_what_is_not_a_number_on_one_side_is_infinitely_far(parts: list[float]) -> None:
    assert by_row(np.array([[1.0]]), np.array([parts])) == np.inf


def test_what_is_not_a_number_on_both_sides_is_equal() -> None:
    assert by_row(np.array([[np.nan], [1.0]]), np.array([[np.nan], [1.0]])) == 0


class _Reader(nn.Module):
    """Reads a table by its ids, one by positions and a plain tensor by ids, and computes with a table that it does not read by ids."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.positions, self.scored = nn.Embedding(9, 4), nn.Embedding(3, 4), nn.Embedding(5, 4)
        self.categories = torch.arange(9) % 4

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.table(ids) + self.positions(torch.arange(3)) + self.categories[ids][..., None]
        scores: Tensor = rows @ self.scored.weight.T
        return scores


def test_tables_are_what_is_read_by_ids_of_the_inputs() -> None:
    inputs, others = (torch.tensor([[0, 1, 2]]),), (torch.tensor([[3, 4, 5]]),)
    assert tables_read(_Reader(), inputs, others) == 2


def test_weights_are_the_same_in_every_call_and_padding_rows_are_not_zero() -> None:
    first, second = (weighted(nn.Embedding(5, 4, padding_idx=0)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)  # type: ignore[arg-type]
    assert first.weight[0].abs().sum() > 0  # type: ignore[index]


def test_scores_are_the_first_answer() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x.sum()

    assert torch.equal(Scores(Both())(torch.ones(2)), torch.ones(2))
