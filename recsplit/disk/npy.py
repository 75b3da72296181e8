"""numpy's .npy format as a stream: a header, then numbers. numpy reads and writes it, but takes memory by what a header promises.

No message holds a header's own words.
"""

import io
import math
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

#: The longest header that numpy itself trusts.
_LONGEST = 10_000
_BLOCK = 1 << 22


def header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and dtype; the numbers follow. Raises ValueError for anything else, and for pickled objects."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it doesn't begin as an array of numpy's does")
    size = file.read(2 if magic[6] == 1 else 4)
    length = int.from_bytes(size, "little")
    if length > _LONGEST:
        raise ValueError(f"its header is said to have {length} bytes, and one has {_LONGEST} at most")
    text = io.BytesIO(size + file.read(length))
    read = np.lib.format.read_array_header_1_0 if magic[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(text)  # type: ignore[no-untyped-call]
    except Exception:  # whatever numpy makes of it
        raise ValueError("its header can't be read") from None
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize >= 1 << 63:
        raise ValueError("its header has an impossible shape")
    return shape, fortran, dtype


def array(file: IO[bytes], most_bytes: int) -> NDArray[Any]:
    """A whole array of at most `most_bytes`. Memory grows with what the file really has. Raises ValueError for anything else."""
    shape, fortran, dtype = header(file)
    size = math.prod(shape) * dtype.itemsize
    if size > most_bytes:
        raise ValueError(f"its header promises {size} bytes, and there are {most_bytes} at most")
    if size == 0:
        return np.zeros(shape, dtype)
    data = bytearray()
    while len(data) < size:
        block = file.read(min(size - len(data), _BLOCK))
        if not block:
            raise ValueError("it ends early")
        data += block
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def write(file: BinaryIO, data: NDArray[Any]) -> None:
    """Header and numbers."""
    np.lib.format.write_array(file, data, version=(1, 0), allow_pickle=False)  # type: ignore[no-untyped-call]
