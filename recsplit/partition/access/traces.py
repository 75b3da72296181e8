"""Traces of what clients sent, a chunk at a time: .npz, .parquet (with pyarrow), or Triton's own .json; larger than memory or not."""

import contextlib
import importlib
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from recsplit.disk import archive, bounded, npy
from recsplit.disk.files import size_text
from recsplit.errors import InputError, MissingExtra
from recsplit.partition.access import live
from recsplit.partition.access.counting import ROWS, needed
from recsplit.plan.plan import Plan

Array = NDArray[np.generic]

#: About how many numbers of an input a chunk holds.
CHUNK = 4_000_000
#: The most that one row of an input may have.
ROW_BYTES = 1 << 26
#: Rows of a Parquet chunk: some thousand ids a row are still no more than a CHUNK or two.
_STEP = 4096
FORMATS = "expected a .npz or .parquet with an array for each input: recsplit access --help"


def chunks(path: Path, plan: Plan, advance: Callable[[int], None] = lambda _bytes: None) -> Iterator[dict[str, Array]]:
    """The inputs that the plan's lookups read, in chunks of rows; `advance` is told bytes of the trace that were read.

    A trace of Triton's comes one request at a time. Raises InputError where the file can't be read, is no trace, or lacks an input;
    MissingExtra for Parquet without pyarrow.
    """
    bounded.require_regular(path, hint=FORMATS)
    if live.is_live(path):
        yield from live.requests(path, plan, advance)
    elif path.suffix == ".parquet":
        yield from _parquet(path, plan, advance)
    else:
        yield from _npz(path, plan, advance)


def _npz(path: Path, plan: Plan, advance: Callable[[int], None]) -> Iterator[dict[str, Array]]:
    with archive.opened(path, "is no .npz", hint=FORMATS) as zipped, contextlib.ExitStack() as stack:
        names = needed(plan, {name.removesuffix(".npy") for name in zipped.namelist()})
        members = {name: stack.enter_context(zipped.open(f"{name}.npy")) for name in names}
        headers = {name: _header(path, name, member, zipped.getinfo(member.name).file_size) for name, member in members.items()}
        rows = _rows(path, {name: shape for name, (shape, _) in headers.items()})
        width = max(math.prod(shape[1:]) for shape, _ in headers.values())
        step = max(CHUNK // max(width, 1), 1)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            chunk: dict[str, Array] = {}
            for name, (shape, dtype) in headers.items():
                size = count * math.prod(shape[1:]) * dtype.itemsize
                try:
                    data = members[name].read(size)
                except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                    raise InputError(f"{path}: {name} is damaged: {error}", hint="write the trace again") from error
                if len(data) != size:
                    raise InputError(f"{path}: {name} ends early", hint="write the trace again")
                advance(size)
                chunk[name] = np.frombuffer(data, dtype=dtype).reshape(count, *shape[1:])
            yield chunk


def _header(path: Path, name: str, member: IO[bytes], size_bytes: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        shape, fortran, dtype = npy.header(member)
    except ValueError as error:
        raise InputError(f"{path}: {name} is no array: {error}", hint=FORMATS) from error
    if not shape or not dtype.itemsize or (fortran and len(shape) > 1):
        kind = "in Fortran order" if fortran else f"{dtype} {list(shape)}"
        raise InputError(f"{path}: {name} is {kind}", hint="expected numbers [rows, ...] in C order: np.ascontiguousarray")
    if math.prod(shape) * dtype.itemsize > size_bytes:
        raise InputError(f"{path}: {name} ends early", hint="write the trace again")
    if (row_bytes := math.prod(shape[1:]) * dtype.itemsize) > ROW_BYTES:
        raise InputError(
            f"{path}: a row of {name} has {size_text(row_bytes)}, and at most {size_text(ROW_BYTES)} are read",
            hint="every input has one row for each row asked for",
        )
    return shape, dtype


def _rows(path: Path, shapes: dict[str, tuple[int, ...]]) -> int:
    rows_by_array = {name: shape[0] for name, shape in shapes.items()}
    if len(set(rows_by_array.values())) != 1:
        raise InputError(f"{path}: its arrays differ in their rows: {rows_by_array}", hint="every input has one row for each row asked for")
    rows = next(iter(rows_by_array.values()))
    if rows == 0:
        raise InputError(f"{path} holds no rows", hint=FORMATS)
    return rows


def _parquet(path: Path, plan: Plan, advance: Callable[[int], None]) -> Iterator[dict[str, Array]]:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", "parquet", "reading Parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = needed(plan, set(file.schema_arrow.names))
            rows = file.metadata.num_rows
            if rows == 0:
                raise InputError(f"{path} holds no rows", hint=FORMATS)
            ragged = {bags.values for bags in plan.bags} | {name for name in names if name.startswith(ROWS)}
            for batch in file.iter_batches(batch_size=_STEP, columns=names):
                yield {name: _column(path, name, batch.column(name), ragged=name in ragged) for name in names}
                advance(path.stat().st_size * batch.num_rows // rows)
    except OSError as error:
        raise InputError(f"{path} can't be read: {bounded.reason(error)}", hint=FORMATS) from error
    except arrow.ArrowException as error:
        raise InputError(f"{path} is no Parquet file: {str(error)[:200]}", hint=FORMATS) from error


def _column(path: Path, name: str, column: Any, *, ragged: bool) -> Array:
    """A column as [rows], or lists as [rows, longest]; shorter ones, which only a ragged input may have, are padded with zeros."""
    if column.null_count:
        raise InputError(f"{path}: {name} has {column.null_count} nulls", hint="expected ids in every row")
    if not hasattr(column, "value_lengths"):
        return cast(Array, column.to_numpy(zero_copy_only=False))
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if not ragged and len(lengths) and lengths.min() != lengths.max():
        raise InputError(
            f"{path}: lists of {name} have {lengths.min()} to {lengths.max()} ids", hint="the model takes as many in every row"
        )
    flat = column.flatten()
    if flat.null_count:
        raise InputError(f"{path}: {name} has {flat.null_count} nulls", hint="expected ids in every row")
    values = flat.to_numpy(zero_copy_only=False)
    padded = np.zeros((len(lengths), int(lengths.max(initial=0))), dtype=values.dtype)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = values
    return padded
