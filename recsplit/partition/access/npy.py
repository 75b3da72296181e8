"""numpy's .npy format as a stream: a header, then numbers. numpy reads and writes it, but doesn't say types."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and dtype; the numbers follow. Raises ValueError for anything else."""
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)  # type: ignore[no-untyped-call]
    return shape, fortran, dtype


def array(file: BinaryIO) -> NDArray[Any]:
    """A whole array; no pickles. Raises ValueError for anything else."""
    whole_array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
    return whole_array


def write(file: BinaryIO, data: NDArray[Any]) -> None:
    """Header and numbers."""
    np.lib.format.write_array(file, data, version=(1, 0), allow_pickle=False)  # type: ignore[no-untyped-call]
