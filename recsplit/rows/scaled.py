"""Rows of a byte or half a byte for each number: codes behind a scale and a bias of the row's own.

A row is its scale and its bias, both FP16, and an unsigned code for each number, of 4 bits two to a byte, the first in the low half. The
number that a code stands for is scale * code + bias, in FP32; the engine reads the same (Scaled8 and Scaled4 in kernels_numbers.h).

The least and the largest number of a row are inside what its codes reach: the bias is rounded down to FP16, and the scale up. So each
number is off by at most half a scale, and a row of one number that FP16 has, zeros above all, by nothing.
"""

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 4
#: Bits of a code, by what plan.Table.stored calls such rows.
BITS = {"INT8": 8, "INT4": 4}

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def row_bytes(dim: int, bits: int) -> int:
    """Bytes of a row of `dim` numbers with codes of so many bits, 8 or 4."""
    return HEADER_BYTES + (dim * bits + 7) // 8


def encode(rows: Floats, bits: int) -> Bytes:
    """Rows [n, dim] as UINT8 [n, row_bytes]. Raises ValueError where a number, or a row's range, is none that FP16 scales reach."""
    steps = (1 << bits) - 1
    least = rows.min(axis=1, initial=np.inf)
    largest = rows.max(axis=1, initial=-np.inf)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        bias = _rounded(least, -np.inf)
        scale = _rounded((largest - bias) / np.float32(steps), np.inf)
        if not (np.isfinite(bias).all() and np.isfinite(scale).all()):
            raise ValueError("a number is infinite, NaN or beyond what FP16 reaches")
        codes = np.rint((rows - bias[:, None]) / scale[:, None])
    codes = np.where(scale[:, None] > 0, np.clip(codes, 0, steps), 0).astype(np.uint8)
    encoded = np.empty((len(rows), row_bytes(rows.shape[1], bits)), np.uint8)
    encoded[:, :HEADER_BYTES] = np.stack([scale, bias], axis=1).astype(np.float16).view(np.uint8).reshape(len(rows), HEADER_BYTES)
    if bits == 4:
        codes = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
        codes = codes[:, ::2] | codes[:, 1::2] << 4
    encoded[:, HEADER_BYTES:] = codes
    return encoded


def decode(encoded: Bytes, dim: int, bits: int) -> Floats:
    """The numbers [n, dim] that encoded rows stand for."""
    scale, bias = headers(encoded)
    codes = encoded[:, HEADER_BYTES:]
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)[:, :dim]
    numbers: Floats = codes.astype(np.float32) * scale[:, None] + bias[:, None]
    return numbers


def headers(encoded: Bytes) -> tuple[Floats, Floats]:
    """The scales and the biases of encoded rows, [n] each."""
    both = np.ascontiguousarray(encoded[:, :HEADER_BYTES]).view(np.float16).astype(np.float32)
    return both[:, 0], both[:, 1]


def _rounded(numbers: Floats, towards: float) -> Floats:
    """The nearest numbers of FP16 that aren't on the other side of `numbers`."""
    half = numbers.astype(np.float16)
    beyond = half.astype(np.float32) > numbers if towards < 0 else half.astype(np.float32) < numbers
    half[beyond] = np.nextafter(half[beyond], np.float16(towards))
    return half.astype(np.float32)
