"""Numbers of rows in fewer bits: what FP32 becomes when it is stored as FP16, BF16, or scaled in INT8 or INT4, and what that is read as."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from recsplit.rows import scaled

Floats = NDArray[np.float32]
#: Types of half precision that FP32 can be stored as, from the finer to the coarser.
HALVES: dict[str, Any] = {"FP16": np.float16, "BF16": ml_dtypes.bfloat16}
#: The ways to store rows of each dtype in fewer bits; rows of any other are stored as they are.
NARROWER = {"FP32": ("FP16", "BF16", "INT8", "INT4"), "FP16": ("INT8", "INT4"), "BF16": ("INT8", "INT4")}


def row_bytes(stored: str, dim: int, element_bytes: int) -> int:
    """Bytes of a row of `dim` numbers, whose own elements are so large, where it is stored so."""
    if stored in scaled.BITS:
        return scaled.row_bytes(dim, scaled.BITS[stored])
    return dim * (2 if stored in HALVES else element_bytes)


def fits(numbers: Floats, stored: str) -> bool:
    """Whether rows can be stored so, as far as their numbers alone tell."""
    largest = float(np.abs(numbers).max(initial=0))
    return largest <= (3.38e38 if stored == "BF16" else 65504.0)  # False of NaN


def encode(numbers: Floats, stored: str) -> NDArray[Any]:
    """Rows [n, dim] as they are stored: of HALVES [n, dim], of scaled rows UINT8 [n, row bytes].

    Raises ValueError where one holds a number that can't be stored so: infinity, NaN, or one beyond FP16.
    """
    if stored in scaled.BITS:
        return scaled.encode(numbers, scaled.BITS[stored])
    with np.errstate(over="ignore"):
        halves: NDArray[Any] = numbers.astype(HALVES[stored])
    if not np.isfinite(halves.astype(np.float32)).all():
        raise ValueError(f"a number is infinite, NaN or beyond what {stored} reaches")
    return halves


def decode(rows: NDArray[Any], dim: int, stored: str) -> Floats:
    """The numbers [n, dim] that rows stand for, as `encode` gives them."""
    if stored in scaled.BITS:
        return scaled.decode(rows, dim, scaled.BITS[stored])
    numbers: Floats = rows.astype(np.float32)
    return numbers


def lowest(stored: str, dim: int) -> NDArray[Any]:
    """A row [1, elements in the file] of the lowest number that may stand in it, which takes part in no maximum."""
    if stored in scaled.BITS:
        rows = np.zeros((1, scaled.row_bytes(dim, scaled.BITS[stored])), np.uint8)
        rows[0, 2:4] = np.array([-np.inf], np.float16).view(np.uint8)  # a bias to which nothing is added
        return rows
    halves = HALVES[stored]
    least = ml_dtypes.finfo(halves).min  # type: ignore[no-untyped-call]
    return np.full((1, dim), least, halves)


def half_steps(rows: NDArray[Any], stored: str) -> Floats:
    """How far each row's numbers may be from those that were stored, [n]: half a scale, or half the last bit of its largest number."""
    if stored in scaled.BITS:
        return scaled.headers(rows)[0] / 2
    largest = np.abs(rows.astype(np.float32)).max(axis=1, initial=0)
    bits, least = (8, 2.0**-133) if stored == "BF16" else (11, 2.0**-24)
    steps: Floats = np.maximum(largest * np.float32(2.0 ** (1 - bits)), np.float32(least)) / 2
    return steps
