"""The CSR form of a shard in onnxruntime, against numpy."""

import itertools
from typing import Literal

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsplit.graph.shards.csr import CsrTable, bags_model
from recsplit.plan.plan import Reading

ROWS, DIM = 20, 3
LOWEST = np.finfo(np.float32).min
Pool = Literal["none", "sum", "mean", "max"]


def table(seed: int = 0) -> NDArray[np.float32]:
    """[ROWS + 2, DIM]: rows, then zeros, then the lowest number."""
    rows = np.random.default_rng(seed).standard_normal((ROWS, DIM)).astype(np.float32)
    return np.concatenate([rows, np.zeros((1, DIM), np.float32), np.full((1, DIM), LOWEST, np.float32)])


def reading(poolings: tuple[Pool, ...]) -> Reading:
    return Reading("places_0", "vectors", tuple(1 for _ in poolings), poolings)


def session(*poolings: tuple[Pool, ...], tensors: int = 1) -> ort.InferenceSession:
    tables = [ir.tensor(table(number), name=f"table_{number}") for number in range(tensors)]
    readings = [(number, reading(item), CsrTable(tables[number % tensors], ROWS, ROWS + 1)) for number, item in enumerate(poolings)]
    return ort.InferenceSession(ir.to_proto(bags_model(readings)).SerializeToString(), providers=["CPUExecutionProvider"])


def pooled(rows: NDArray[np.int32], offsets: NDArray[np.int32], poolings: tuple[Pool, ...], seed: int = 0) -> NDArray[np.float32]:
    """What numpy makes of the same bags."""
    answers = []
    for bag, (start, end) in enumerate(itertools.pairwise(offsets)):
        vectors = table(seed)[rows[start:end]]
        if poolings[bag % len(poolings)] == "max":
            answers.append(vectors.max(axis=0, initial=LOWEST))
        else:
            answers.append(vectors.sum(axis=0))
    return np.stack(answers)


@settings(max_examples=60)
@given(
    poolings=st.lists(st.sampled_from(["none", "sum", "mean", "max"]), min_size=1, max_size=4),
    batch=st.integers(1, 3),
    longest=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_bags_pool_as_numpy_pools_them(poolings: list[Pool], batch: int, longest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, batch * len(poolings))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    rows = rng.integers(0, ROWS, offsets[-1]).astype(np.int32)
    got = session(tuple(poolings)).run(None, {"rows_0": rows, "offsets_0": offsets})[0]
    np.testing.assert_allclose(got, pooled(rows, offsets, tuple(poolings)), rtol=1e-5, atol=1e-6)


def test_readings_of_one_table_share_its_rows_and_others_have_their_own() -> None:
    run = session(("sum",), ("max",), ("sum",), tensors=2)
    bags = np.array([3, 4, 4], np.int32), np.array([0, 2, 3], np.int32)
    names = {f"{what}_{number}": value for number in range(3) for what, value in zip(("rows", "offsets"), bags, strict=True)}
    first, second, third = run.run(["pooled_0", "pooled_1", "pooled_2"], names)
    np.testing.assert_allclose(first, pooled(*bags, ("sum",)), rtol=1e-6)
    np.testing.assert_allclose(second, pooled(*bags, ("max",), seed=1), rtol=1e-6)
    np.testing.assert_array_equal(first, third)


def test_a_row_outside_the_shard_is_refused_and_reads_nothing_else() -> None:
    run = session(("sum",))
    with pytest.raises(Exception, match="out of"):
        run.run(None, {"rows_0": np.array([ROWS + 2], np.int32), "offsets_0": np.array([0, 1], np.int32)})


def test_max_without_a_row_of_the_lowest_number_is_refused() -> None:
    with pytest.raises(ValueError, match="lowest"):
        bags_model([(0, reading(("max",)), CsrTable(ir.tensor(table(), name="t"), ROWS, None))])
