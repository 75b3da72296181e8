"""Pooling: every instruction set gives the bits of the same additions in the same order."""

import numpy as np
import pytest

from recsplit.engine.compilation import unavailable
from recsplit.errors import RecsplitError
from recsplit.rows import scaled
from tests.engine.models import Array, library

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

KERNELS = ["portable", "avx2", "avx512"]
BLOCK = 64  # rows that are added one after the other


def numbers(dtype: str, rows: int, dim: int) -> tuple[Array, Array]:
    """A table as it is stored, and its numbers as the kernels see them."""
    table = np.random.default_rng([rows, dim]).standard_normal((rows, dim))
    if dtype == "BF16":
        stored = (table.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return stored, (stored.astype(np.uint32) << 16).view(np.float32)
    stored = table.astype({"FP32": np.float32, "FP16": np.float16, "FP64": np.float64}[dtype])
    return stored, stored if dtype == "FP64" else stored.astype(np.float32)


def pooled(table: Array, ids: Array, pooling: str) -> Array:
    """Bag by bag as the kernels add: in blocks, each row after the other."""
    total = np.zeros((len(ids), table.shape[1]), table.dtype)
    for start in range(0, ids.shape[1], BLOCK):
        block = np.zeros_like(total)
        for place in range(start, min(start + BLOCK, ids.shape[1])):
            rows = table[ids[:, place]]
            block = block + rows if pooling != "max" else rows if place == 0 else np.maximum(total if place == start else block, rows)
        total = block if pooling == "max" or ids.shape[1] <= BLOCK else total + block
    return total / table.dtype.type(ids.shape[1]) if pooling == "mean" and ids.shape[1] else total


def as_stored(answer: Array, dtype: str) -> Array:
    """Rounded to the nearest, ties to even."""
    if dtype == "BF16":
        bits = answer.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return answer.astype(np.float16) if dtype == "FP16" else answer


def kernel(name: str, table: Array, dtype: str, ids: Array, pooling: str, stored: str | None = None, dim: int | None = None) -> Array:
    try:
        return library().pool(table, dtype, ids, pooling, name, stored=stored, dim=dim)
    except RecsplitError as error:
        if "doesn't run the kernels" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", ["FP32", "FP16", "BF16", "FP64"])
def test_every_width_and_length_gives_the_same_bits(name: str, dtype: str) -> None:
    random = np.random.default_rng(0)
    for dim in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 100, 128, 200, 257):
        stored, table = numbers(dtype, 50, dim)
        for length in (0, 1, 2, 20, 63, 64, 65, 200):
            ids = random.integers(0, 50, (5, length))
            for pooling in ("sum", "mean", "max"):
                want = as_stored(pooled(table, ids, pooling), dtype)
                np.testing.assert_array_equal(kernel(name, stored, dtype, ids, pooling), want, err_msg=f"{dim} {length} {pooling}")


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(dtype, stored) for dtype in ("FP32", "FP16", "BF16") for stored in ("INT8", "INT4")] + [("FP32", "FP16"), ("FP32", "BF16")],
)
def test_rows_that_are_stored_otherwise_than_their_vectors(name: str, dtype: str, stored: str) -> None:
    random = np.random.default_rng(1)
    for dim in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 100, 128, 200, 257):
        plain, table = numbers("FP32" if stored.startswith("INT") else stored, 50, dim)
        if stored.startswith("INT"):
            plain = scaled.encode(plain, int(stored[3:]))
            table = scaled.decode(plain, dim, int(stored[3:]))
        for length in (0, 1, 20, 64, 65, 200):
            ids = random.integers(0, 50, (5, length))
            for pooling in ("sum", "mean", "max"):
                want = as_stored(pooled(table, ids, pooling), dtype)
                got = kernel(name, plain, dtype, ids, pooling, stored, dim)
                np.testing.assert_array_equal(got.view(want.dtype), want, err_msg=f"{dim} {length} {pooling}")


@pytest.mark.parametrize("name", KERNELS)
def test_every_half_is_read_as_it_is(name: str) -> None:
    table = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(-1, 16)
    got = kernel(name, table, "FP16", np.arange(len(table)).reshape(-1, 1), "sum")
    finite = ~np.isnan(table)
    np.testing.assert_array_equal(np.isnan(got), ~finite)
    np.testing.assert_array_equal(got[finite], table[finite])


@pytest.mark.parametrize("name", KERNELS)
def test_sums_are_rounded_to_halves_alike(name: str) -> None:
    """Subnormals, ties, what rounds to infinity, and NaN, which is one and the same whatever it came from."""
    random = np.random.default_rng(3)
    table = np.concatenate([np.arange(65536, dtype=np.uint16), random.integers(0, 65536, 1 << 20, dtype=np.uint16)]).reshape(-1, 16)
    ids = random.integers(0, len(table), (len(table), 2))
    got = kernel(name, table, "FP16", ids, "sum").view(np.uint16)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = table.view(np.float16)[ids[:, 0]].astype(np.float32) + table.view(np.float16)[ids[:, 1]].astype(np.float32)
        want = sums.astype(np.float16).view(np.uint16)
    is_nan = np.isnan(sums)
    np.testing.assert_array_equal(got[~is_nan], want[~is_nan])
    assert set(np.unique(got[is_nan] & 0x7FFF)) == {0x7E00}


@pytest.mark.parametrize(("dtype", "stored"), [("FP16", "BF16"), ("FP16", "FP32"), ("FP64", "INT8"), ("INT8", "INT4"), ("FP32", "INT2")])
def test_rows_that_no_kernel_reads_are_refused(dtype: str, stored: str) -> None:
    with pytest.raises(RecsplitError, match=f"rows of {dtype} aren't stored as '{stored}'"):
        kernel("portable", np.zeros((1, 64), np.uint8), dtype, np.zeros((1, 1), np.int64), "sum", stored, 1)
