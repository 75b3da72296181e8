"""Ragged bags: both forms equal torch's embedding_bag, whatever lies in empty slots; wrong lengths hurt nobody else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.graph.lower.collected import WRONG_LENGTHS
from recsplit.graph.lower.ragged_bags import SKEW, choose_form
from recsplit.plan import ragged
from recsplit.plan.plan import UNKNOWN_IDS
from tests.graph.ragged_models import ARRAYS, DIM, FORMS, ROWS, Bag, T, rows_of, torch_answer
from tests.graph.small import Feeds, Small, small


def demand(bag: Bag, parts: Small, rows: Feeds) -> None:
    """The parts equal torch, are the whole to the bit, and mark nothing."""
    got, whole = parts(rows), parts.whole(rows)
    np.testing.assert_allclose(got["y"], torch_answer(bag, parts, rows), rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(got["y"], whole["y"])
    assert (got[UNKNOWN_IDS][:, 0] == -1).all()


KINDS = [
    Bag(mode, padding, last, weighted)
    for mode in ("sum", "mean", "max")
    for padding in (-1, 3)
    for last in (0, 1)
    for weighted in ((False, True) if mode == "sum" else (False,))
] + [Bag(mode, 0, 0, False) for mode in ("sum", "mean", "max")]
LENGTHS = {
    "some bags empty": [3, 0, 2, 5, 1],
    "the first empty": [0, 4],
    "the last empty": [4, 0],
    "all empty": [0, 0, 0],
    "one row": [4],
    "one empty row": [0],
    "one long": [200, 0, 1],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bag", KINDS, ids=str)
def test_a_bag_equals_torchs_whatever_lies_in_slots_without_an_id(bag: Bag, form: str) -> None:
    parts = bag.cut(form)
    for lengths in LENGTHS.values():
        for fill in (3, 2**63 - 1, -(2**63)):
            demand(bag, parts, rows_of(lengths, extra=2, fill=fill, limit=8))


_made: dict[tuple[Bag, str], Small] = {}  # cut once, whatever the number of examples


@settings(max_examples=60)
@given(
    st.sampled_from([(bag, form) for bag in KINDS for form in FORMS]),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_any_bags_pool_alike_in_both_forms_and_in_torch(kind: tuple[Bag, str], lengths: list[int], extra: int, seed: int) -> None:
    if kind not in _made:
        _made[kind] = kind[0].cut(kind[1])
    demand(kind[0], _made[kind], rows_of(lengths, extra=extra, fill=-7, seed=seed, limit=8))


@pytest.mark.parametrize("form", FORMS)
def test_long_sums_keep_their_precision(form: str) -> None:
    """A running sum in float32 would be off by 1e-4 here."""
    parts = small(
        "(float[N,2] x, int64[K] values, int64[M] offsets) => (float[N,8] y) "
        '{ y=recsplit.EmbeddingBag<mode="sum",padding_idx=-1,include_last_offset=0>(t,values,offsets) }',
        {"t": T + 1000},
        bag_form=form,
    )
    rows = rows_of([5, 3000, 0, 2, 1500])
    source = ragged.from_rows(parts.cut.bags[0], rows)
    exact = torch.nn.functional.embedding_bag(
        torch.tensor(source["values"]), torch.tensor((T + 1000).astype(np.float64)), torch.tensor(source["offsets"]), mode="sum"
    )
    np.testing.assert_allclose(parts(rows)["y"], exact.numpy(), rtol=2e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [-1, ROWS, 2**40, 2**63 - 1, -(2**63)])
def test_an_unknown_id_marks_its_row_alone(number: int, form: str) -> None:
    parts = Bag().cut(form)
    rows = rows_of([2, 3, 1], extra=1)
    fine = parts(rows)["y"]
    rows["values"][1, 2] = number
    got = parts(rows)
    assert got[UNKNOWN_IDS].tolist() == [[-1, 0], [0, number], [-1, 0]]
    assert np.isnan(got["y"][1]).all()
    np.testing.assert_array_equal(got["y"][[0, 2]], fine[[0, 2]])


WRONG = [[-1], [-3], [5], [1000], [2**31], [2**33], [2**62], [-(2**62)], [2**63 - 1], [-(2**63)]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", WRONG, ids=str)
def test_lengths_that_do_not_fit_the_slots_mark_their_row_alone(length: list[int], form: str) -> None:
    parts = Bag().cut(form)
    rows = rows_of([2, 3, 1], extra=1)
    fine = parts(rows)["y"]
    rows["lengths"][1] = length
    got = parts(rows)
    assert got[UNKNOWN_IDS].tolist() == [[-1, 0], [0, WRONG_LENGTHS], [-1, 0]]
    assert np.isnan(got["y"][1]).all()
    np.testing.assert_array_equal(got["y"][[0, 2]], fine[[0, 2]])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("policy", ["zero", "row=7"])
@pytest.mark.parametrize("length", WRONG, ids=str)
def test_under_a_policy_wrong_lengths_still_mark_their_row_and_unknown_ids_do_not(length: list[int], policy: str, form: str) -> None:
    """No policy says what lengths mean that can't be read; an error of the run would fail every request of the batch."""
    parts = Bag().cut(form, unknown_ids=policy)
    rows = rows_of([2, 3, 1], extra=1)
    rows["values"][2, 0] = ROWS
    fine = parts(rows)["y"]
    rows["lengths"][1] = length
    answers = parts(rows)
    assert answers[UNKNOWN_IDS].tolist() == [[-1, 0], [0, WRONG_LENGTHS], [-1, 0]]
    assert np.isnan(answers["y"][1]).all()
    np.testing.assert_array_equal(answers["y"][[0, 2]], fine[[0, 2]])
    assert not parts.cut.known()(rows)[1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [1e30, -1e30, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_number_of_any_size_stays_in_its_own_bag(mode: str, number: float, form: str) -> None:
    """No sum takes in vectors of two bags: what one client sends, or one row of a table holds, doesn't reach another's answer."""
    weighted = mode == "sum"
    parts = Bag(mode=mode, weighted=weighted).cut(form)
    rows = rows_of([2, 3, 0, 70, 1, 5], extra=1)
    if weighted:
        rows["weights"] = np.random.default_rng(0).random(rows["values"].shape).astype(np.float32)
    fine = parts(rows)["y"]
    if weighted:
        rows["weights"][1, 1], rows["weights"][3, 66] = number, number
        answers = parts(rows)["y"]
    else:
        large = T.copy()
        large[49] = number
        rows["values"][rows["values"] == 49] = 3
        parts = small(Bag(mode=mode).text, {**ARRAYS, "t": large}, bag_form=form)
        fine = parts(rows)["y"]
        rows["values"][1, 1], rows["values"][3, 66] = 49, 49
        answers = parts(rows)["y"]
    np.testing.assert_array_equal(answers[[0, 2, 4, 5]], fine[[0, 2, 4, 5]])


@pytest.mark.parametrize("policy", ["zero", "row=7"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("mode", "padding"), [("sum", -1), ("mean", -1), ("max", -1), ("mean", 3)])
def test_policies_read_zeros_or_a_row_in_place_of_unknown_ids(mode: str, padding: int, form: str, policy: str) -> None:
    parts = small(
        "(int64[K] values, int64[M] offsets) => (float[N,8] y) "
        f'{{ y=recsplit.EmbeddingBag<mode="{mode}",padding_idx={padding},include_last_offset=0>(t,values,offsets) }}',
        ARRAYS,
        bag_form=form,
        unknown_ids=policy,
    )
    rows = rows_of([2, 3, 0, 1])
    rows["values"][0, 1], rows["values"][1, 0], rows["values"][3, 0] = -1, 2**40, 50
    source = ragged.from_rows(parts.cut.bags[0], rows)
    ids = source["values"].astype(np.int64)
    known = np.where((ids < 0) | (ids >= ROWS), ROWS if policy == "zero" else 7, ids)
    extended = torch.tensor(np.concatenate([T, np.zeros((1, DIM), np.float32)]))
    want = torch.nn.functional.embedding_bag(
        torch.tensor(known), extended, torch.tensor(source["offsets"]), mode=mode, padding_idx=padding if padding >= 0 else None
    )
    np.testing.assert_allclose(parts(rows)["y"], want.numpy(), rtol=1e-5, atol=1e-6)


def test_skewed_bags_are_pooled_in_chunks_and_even_ones_padded() -> None:
    assert choose_form(np.array([20] * 100)) == "padded"
    assert choose_form(np.array([1] * 99 + [200])) == "chunked"
    assert choose_form(None) == choose_form(np.zeros(4)) == choose_form(np.zeros(0)) == "padded"
    assert SKEW > 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("before", ["ids = Mod(va, five) jds = Mod(vb, k)", "ids = Mod(va, five) jds = Identity(vb)"])
def test_two_bags_have_as_many_slots_each_as_they_like(before: str, form: str) -> None:
    """Once both inputs had one symbol for their slots: onnxruntime then reused memory of one for the other."""
    bag = 'recsplit.EmbeddingBag<mode="sum",padding_idx=-1,include_last_offset=0>'
    parts = small(
        f"(int64[K] va, int64[M] oa, int64[K] vb, int64[M] ob) => (float[N,8] y) {{ {before} a = {bag}(t,ids,oa) b = {bag}(t,jds,ob) "
        "y = Add(a, b) }",
        ARRAYS,
        bag_form=form,
    )
    for widths in ((3, 3), (1, 7), (7, 1), (2, 66)):
        lengths = [np.random.default_rng(width).integers(0, width + 1, (5, 1)) for width in widths]
        rows = {}
        for name, width, length in zip("ab", widths, lengths, strict=True):
            rows[f"v{name}"] = np.random.default_rng(1).integers(0, ROWS, (5, width))
            rows[next(item.lengths for item in parts.cut.bags if item.values == f"v{name}")] = length
        expected = np.zeros((5, DIM), np.float32)
        for name, length in zip("ab", lengths, strict=True):
            ids = rows[f"v{name}"] % (5 if name == "a" else ROWS)
            expected += np.array([T[ids[row, : length[row, 0]]].sum(axis=0) for row in range(5)])
        np.testing.assert_allclose(parts(rows)["y"], expected, rtol=1e-5, atol=1e-5)
    symbols = [size for value in parts.cut.whole.graph.inputs for size in (value.shape or ())[1:] if not isinstance(size, int)]
    assert len({str(size) for size in symbols}) == len(symbols) == 2
