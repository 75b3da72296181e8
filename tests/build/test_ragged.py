"""Ragged inputs to rows and back: the same ids, weights and lengths, whatever the shape they came in."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.plan.plan import Bags
from recsplit.plan.ragged import from_rows, source_inputs, to_rows

Array = NDArray[Any]
OFFSETS = Bags("values", "lengths", None, ("f",), "values", "offsets", None, None, None, include_last_offset=False)
KINDS = {
    "offsets": OFFSETS,
    "offsets with the last": replace(OFFSETS, include_last_offset=True),
    "lengths": replace(OFFSETS, source_offsets=None, source_lengths="lengths"),
    "weights": replace(OFFSETS, weights="weights", source_weights="weights"),
    "three features, key-major": replace(OFFSETS, source_offsets=None, source_lengths="lengths", features=("a", "b", "c")),
}


@st.composite
def sources(draw: st.DrawFn) -> tuple[Bags, dict[str, Array]]:
    """Bags of a kind, and a model's own inputs that fit them."""
    bags = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    batch = draw(st.integers(1, 6))
    lengths = draw(hnp.arrays(np.int64, (len(bags.features) * batch,), elements=st.integers(0, 5)))
    total = int(lengths.sum())
    source: dict[str, Array] = {"values": draw(hnp.arrays(draw(st.sampled_from([np.int64, np.int32])), (total,)))}
    if bags.source_weights is not None:
        source["weights"] = draw(hnp.arrays(np.float32, (total,), elements=st.floats(-10, 10, width=32)))
    if bags.source_lengths is not None:
        source["lengths"] = lengths
    else:
        ends = np.cumsum(lengths)
        source["offsets"] = np.concatenate([[0], ends if bags.include_last_offset else ends[:-1]])
    return bags, source


@given(sources(), st.integers(1, 4))
def test_to_rows_and_back_gives_what_was_given(given_source: tuple[Bags, dict[str, Array]], multiple: int) -> None:
    bags, source = given_source
    rows = to_rows(bags, source, slots_multiple=multiple)
    back = from_rows(bags, rows)
    assert set(back) == set(source)
    for name, data in source.items():
        np.testing.assert_array_equal(back[name], data)
    assert back["values"].dtype == source["values"].dtype
    assert rows["values"].shape[1] % multiple == 0 and rows["values"].shape[1] >= 1
    assert rows["lengths"].shape == (len(rows["values"]), len(bags.features)) and rows["lengths"].dtype == np.int64


@given(sources(), st.integers(0, 3), st.integers(-(2**31), 2**31 - 1))
def test_what_lies_behind_a_rows_ids_does_not_matter(given_source: tuple[Bags, dict[str, Array]], extra: int, garbage: int) -> None:
    bags, source = given_source
    rows = to_rows(bags, source)
    slot = np.arange(rows["values"].shape[1] + extra)
    empty = slot >= rows["lengths"].sum(axis=1, keepdims=True)
    changed = dict(rows)
    for name in ("values", "weights") if bags.weights else ("values",):
        wider = np.concatenate([rows[name], np.zeros((len(empty), extra), rows[name].dtype)], axis=1)
        changed[name] = np.where(empty, np.asarray(garbage).astype(wider.dtype), wider)
    for name, data in from_rows(bags, changed).items():
        np.testing.assert_array_equal(data, source[name])


@given(st.lists(st.tuples(sources(), st.booleans()), min_size=1, max_size=1), st.data())
def test_rows_can_be_cut_out_and_joined(given_sources: list[tuple[tuple[Bags, dict[str, Array]], bool]], data: st.DataObject) -> None:
    """What batching does: each row alone holds its own bags, key by key."""
    (((bags, source), _),) = given_sources
    rows = to_rows(bags, source)
    row = data.draw(st.integers(0, len(rows["values"]) - 1))
    alone = from_rows(bags, {name: array[row : row + 1] for name, array in rows.items()})
    start = 0
    for feature in range(len(bags.features)):
        length = int(rows["lengths"][row, feature])
        np.testing.assert_array_equal(alone["values"][start : start + length], rows["values"][row, start : start + length])
        start += length
    assert len(alone["values"]) == start


def test_stacked_offsets_of_several_inputs_come_back_stacked() -> None:
    groups = [replace(OFFSETS, values=f"i{n}", source_values=f"i{n}", lengths=f"lengths_{n}", source_row=n) for n in range(3)]
    source = {
        "offsets": np.array([[0, 2], [0, 0], [0, 1]]),
        "i0": np.array([5, 6, 7]),
        "i1": np.array([8]),
        "i2": np.array([1, 2]),
        "x": np.ones((2, 4)),
    }
    rows = {"x": source["x"]}
    for bags in groups:
        rows |= to_rows(bags, source)
    back = source_inputs(groups, rows)
    assert set(back) == set(source)
    for name, array in source.items():
        np.testing.assert_array_equal(back[name], array)


def test_groups_of_one_set_of_offsets_share_it() -> None:
    groups = [replace(OFFSETS, values=name, source_values=name) for name in ("a", "b")]
    source = {"offsets": np.array([0, 2, 2]), "a": np.array([1, 2, 3]), "b": np.array([4, 5, 6])}
    rows = to_rows(groups[0], source) | to_rows(groups[1], source)
    back = source_inputs(groups, rows)
    assert set(back) == set(source) and all(np.array_equal(back[name], source[name]) for name in source)


WRONG = {
    "offsets beyond the values": {"offsets": [0, 9], "values": [1, 2]},
    "offsets that fall": {"offsets": [0, 2, 1], "values": [1, 2, 3]},
    "offsets that don't start at 0": {"offsets": [1, 2], "values": [1, 2, 3]},
    "no values for the offsets": {"offsets": [0, 1], "values": []},
}


@pytest.mark.parametrize("source", WRONG.values(), ids=WRONG)
def test_offsets_that_do_not_fit_are_refused(source: dict[str, list[int]]) -> None:
    with pytest.raises(InputError, match="describes"):
        to_rows(OFFSETS, {name: np.array(data, dtype=np.int64) for name, data in source.items()})


@pytest.mark.parametrize("lengths", [[3, 0], [-1, 3], [0, 0], [1, 1, 1], [2**62, 2**62, 2**62, 2**62 + 2], [2**63 - 1, 3 - 2**62]])
def test_lengths_that_do_not_add_up_are_refused(lengths: list[int]) -> None:
    with pytest.raises(InputError, match="describes"):
        to_rows(KINDS["lengths"], {"lengths": np.array(lengths), "values": np.array([1, 2])})
