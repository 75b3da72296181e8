"""A workload: query sizes, arrivals, id skew and the latency bound, in one TOML file.

    name = "evening"
    seed = 1
    [latency]
    bound_ms = 25.0
    percentile = 95
    [sizes]
    law = "lognormal"
    mu = 5.1
    sigma = 0.2
    [arrivals]
    process = "poisson"
    rate = 200.0
    [ids]
    law = "two-level"
    hot_share = 0.9

Every other key, type or impossible number is an InputError that names file, table and key. Files that a workload names
lie relative to it.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import arrivals, ids, sizes, strict_toml
from recsplit.capacity.arrivals import Arrivals
from recsplit.capacity.ids import Skew, Uniform
from recsplit.capacity.shipped import names, shipped
from recsplit.capacity.sizes import Sizes
from recsplit.capacity.strict_toml import Checked, within
from recsplit.disk import archive, bounded, npy, toml_file
from recsplit.errors import InputError

#: Of a file of whole numbers: a year of requests per second, a line each.
NUMBERS_BYTES = 1 << 28
#: Of an access trace: a quarter of a billion rows.
ROWS_BYTES = 1 << 31
_DIGITS = 20


@dataclass(frozen=True)
class LatencyBound(Checked):
    """The latency that `percentile` percent of the queries must stay under."""

    bound_ms: float = field(metadata=within(0, above=True))
    percentile: float = field(default=95.0, metadata=within(0, 99.99, above=True))


@dataclass(frozen=True)
class Workload(Checked):
    """What is asked of a served model: how large queries are, when they come, which rows they read, how soon they must be answered."""

    name: str
    latency: LatencyBound
    sizes: Sizes
    arrivals: Arrivals
    ids: Skew = field(default_factory=Uniform)
    seed: int = field(default=0, metadata=within(0, 2**63 - 1))

    def describe(self) -> dict[str, Any]:
        """The workload as its TOML has it: plain values, for JSON. Of a file, its name, how many numbers it holds and their sum."""
        return {
            "name": self.name,
            "seed": self.seed,
            "latency": dataclasses.asdict(self.latency),
            "sizes": {"law": self.sizes.law, **_plain(self.sizes)},
            "arrivals": {"process": self.arrivals.process, **_plain(self.arrivals)},
            "ids": {"law": self.ids.law, **_plain(self.ids)},
        }


def read(path: Path) -> Workload:
    """Read a workload file, or one that comes with recsplit by its name ("elasticrec").

    Raises InputError that names file, table and key, with a hint that lists what is possible.
    """
    path = shipped(path, ".toml")
    values = toml_file.read(path, hint=f"recsplit brings workloads of the names {', '.join(names('.toml'))}; https://toml.io tells of TOML")
    for key, kinds, discriminator in (
        ("sizes", sizes.LAWS, "law"),
        ("arrivals", arrivals.PROCESSES, "process"),
        ("ids", ids.LAWS, "law"),
    ):
        if key in values:
            where = f"{path}: [{key}]"
            kind = strict_toml.choose(kinds, values[key], discriminator, where)
            reader = _READERS.get(kind)
            values[key] = strict_toml.read_table(kind, values[key], where=where, skip=[discriminator], contents=reader, folder=path.parent)
    if "latency" in values:
        values["latency"] = strict_toml.read_table(LatencyBound, values["latency"], where=f"{path}: [latency]", folder=path.parent)
    return strict_toml.read_table(Workload, values, where=str(path), folder=path.parent)


def _plain(law: object) -> dict[str, Any]:
    plain_fields: dict[str, Any] = {}
    for item in dataclasses.fields(law):  # type: ignore[arg-type]  # every law is a dataclass
        value = getattr(law, item.name)
        if isinstance(value, np.ndarray):
            plain_fields |= {"count": len(value), "sum": int(value.sum())}
        elif value is not None:
            plain_fields[item.name] = value
    return plain_fields


def _whole_numbers(path: Path, least: int) -> NDArray[np.int64]:
    """One whole number a line, int64 [n]; .gz too. No message holds what is in the file: it may be any file of the machine."""
    numbers: list[NDArray[np.int64]] = []
    place = 0
    for words in bounded.words(path, NUMBERS_BYTES, _DIGITS, hint=f"path is relative to the workload file; {_expected(least)}"):
        for word in words:
            place += 1
            if not word.isdecimal() or not least <= int(word) < 2**62:
                raise InputError(f"{path}: item {place} is no whole number of {least} or more", hint=_expected(least))
        numbers.append(np.array(words, dtype=np.int64))
    if not place:
        raise InputError(f"{path} is empty", hint=_expected(least))
    return np.concatenate(numbers)


def _expected(least: int) -> str:
    return f"expected whole numbers of {least} or more, one a line"


def _sizes(path: Path) -> NDArray[np.int64]:
    query_sizes = _whole_numbers(path, 1)
    if query_sizes.max() > sizes.LIMIT:
        raise InputError(f"{path}: a size is {query_sizes.max()}", hint=f"expected at most {sizes.LIMIT}")
    return query_sizes


def _counts(path: Path) -> NDArray[np.int64]:
    requests_per_s = _whole_numbers(path, 0)
    if not requests_per_s.any():
        raise InputError(f"{path} holds zeros only", hint="expected requests per second, one second a line")
    return requests_per_s


def _rows(path: Path) -> NDArray[np.int64]:
    """The row numbers in a .npy, or in a .npz of one array."""
    hint = "expected a .npy, or a .npz of one array of row numbers: integers of 0 or more"
    with bounded.regular(path, hint=hint) as file:
        zipped = file.read(2) == b"PK"
    row_numbers = _only(path, hint) if zipped else _npy(path, hint)
    if row_numbers.dtype.kind not in "iu" or row_numbers.size == 0 or row_numbers.min() < 0:
        raise InputError(f"{path} is no access trace: {row_numbers.dtype}, shape {row_numbers.shape}", hint=hint)
    return row_numbers.reshape(-1).astype(np.int64)


def _only(path: Path, hint: str) -> NDArray[Any]:
    arrays = archive.arrays(path, "is no .npz", ROWS_BYTES, hint=hint)
    if len(arrays) != 1:
        raise InputError(f"{path} holds {len(arrays)} arrays: {', '.join(arrays)[:200]}", hint="expected one array of row numbers")
    return next(iter(arrays.values()))


def _npy(path: Path, hint: str) -> NDArray[Any]:
    size = bounded.require_size(path, ROWS_BYTES, hint=hint)
    try:
        with bounded.regular(path, hint=hint) as file:
            return npy.array(file, size)
    except ValueError as error:
        raise InputError(f"{path} can't be read: {error}", hint=hint) from error


_READERS: dict[type, Callable[[Path], NDArray[np.int64]]] = {sizes.FromFile: _sizes, arrivals.Trace: _counts, ids.Trace: _rows}
