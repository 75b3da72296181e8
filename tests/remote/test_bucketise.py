"""Which places of a batch go to which shard, and what comes back of them."""

import itertools

import numpy as np
from bucketise import bag_offsets, bucketise, nothing, partial  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st


def test_the_papers_example_is_split_as_in_its_figure() -> None:
    """Acceptance row E2: ElasticRec, Fig. 11: tables of 10 rows in shards A = 0..5 and B = 6..9, inputs [1, 7] and [3, 4, 8]."""
    indices, offsets = np.array([1, 7, 3, 4, 8]), np.array([0, 2, 5])
    a_rows, a_offsets = bucketise(indices, offsets, 0, 6)
    b_rows, b_offsets = bucketise(indices, offsets, 6, 10)
    assert a_rows.tolist() == [1, 3, 4]
    assert b_rows.tolist() == [1, 2]
    assert a_offsets[:-1].tolist() == b_offsets[:-1].tolist() == [0, 1]  # the paper's offsets have no end
    assert (a_offsets[-1], b_offsets[-1]) == (3, 2)
    assert a_rows.dtype == a_offsets.dtype == np.int32


@given(
    batch=st.integers(1, 4),
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 30), max_size=3),
    seed=st.integers(0, 99),
)
def test_every_place_goes_to_exactly_one_shard_and_keeps_its_bag(batch: int, widths: list[int], cuts: list[int], seed: int) -> None:
    places = np.random.default_rng(seed).integers(0, 30, (batch, sum(widths)), np.int32)
    offsets = bag_offsets(batch, tuple(widths))
    bounds = [0, *sorted(cuts), 30]
    rows_by_bag: list[list[int]] = [[] for _ in range(batch * len(widths))]
    for first, last in itertools.pairwise(bounds):
        rows, ends = bucketise(places.reshape(-1), offsets, first, last)
        assert ((rows >= 0) & (rows < max(last - first, 1))).all()
        for bag, (start, end) in enumerate(itertools.pairwise(ends)):
            rows_by_bag[bag] += (rows[start:end] + first).tolist()
    bags = iter(rows_by_bag)
    for row in places:
        start = 0
        for width in widths:
            assert sorted(next(bags)) == sorted(row[start : start + width].tolist())
            start += width


def test_partial_sums_of_all_shards_add_up_to_the_pooled_vectors() -> None:
    rng = np.random.default_rng(1)
    table = rng.standard_normal((40, 3)).astype(np.float32)
    widths, poolings = (4, 1, 5), ("mean", "none", "sum")
    places = rng.integers(0, 40, (6, 10), np.int32)
    total = np.zeros((6, 9), np.float32)
    for first, last in ((0, 3), (3, 3), (3, 25), (25, 40)):
        rows, ends = bucketise(places.reshape(-1), bag_offsets(6, widths), first, last)
        pooled = np.stack([table[first + rows[start:end]].sum(axis=0) for start, end in itertools.pairwise(ends)])
        total += partial(pooled, 6, widths, poolings)
    vectors = table[places]
    expected = np.concatenate([vectors[:, :4].mean(axis=1), vectors[:, 4], vectors[:, 5:].sum(axis=1)], axis=1)
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-6)


def test_bags_without_a_place_in_the_shard_change_no_sum_and_no_maximum() -> None:
    pooled = nothing(4, 2, np.float32, ("sum", "max"))
    other = np.full((4, 2), -3.0, np.float32)
    assert (pooled[0::2] + other[0::2] == other[0::2]).all()
    assert (np.maximum(pooled[1::2], other[1::2]) == other[1::2]).all()
