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
import gzip
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import arrivals, ids, sizes, strict_toml
from recsplit.capacity.arrivals import Arrivals
from recsplit.capacity.ids import Skew, Uniform
from recsplit.capacity.sizes import Sizes
from recsplit.capacity.strict_toml import Checked, within
from recsplit.errors import InputError, MissingExtra


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
    """Read a workload file. Raises InputError that names file, table and key, with a hint that lists what is possible."""
    tomllib = _tomllib()
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}", hint="perf/scenarios holds workload files to begin with") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}", hint="see https://toml.io, or copy a file from perf/scenarios") from error
    values: dict[str, Any] = dict(table)
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


def _tomllib() -> Any:
    """The standard library's, or from Python 3.10 the package that it was made from."""
    try:
        return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ModuleNotFoundError as error:
        raise MissingExtra("tomli", "capacity", "reading TOML with Python 3.10") from error


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
    """One whole number a line, int64 [n]; .gz too."""
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            lines = file.read().split()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {_reason(error)}", hint="path is relative to the workload file") from error
    for number, line in enumerate(lines, 1):
        if not line.isdecimal() or not least <= int(line) < 2**62:
            raise InputError(f"{path}: number {number} is {line[:40]!r}", hint=f"expected whole numbers of {least} or more, one a line")
    if not lines:
        raise InputError(f"{path} is empty", hint="expected whole numbers, one a line")
    return np.array(lines, dtype=np.int64)


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
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            row_numbers = loaded
        else:
            with loaded:
                row_numbers = _only(path, loaded)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} can't be read: {_reason(error)}", hint="expected a .npy, or a .npz of one array") from error
    if row_numbers.dtype.kind not in "iu" or row_numbers.size == 0 or row_numbers.min() < 0:
        raise InputError(
            f"{path} is no access trace: {row_numbers.dtype}, shape {row_numbers.shape}", hint="expected row numbers: integers of 0 or more"
        )
    return row_numbers.reshape(-1).astype(np.int64)


def _only(path: Path, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    keys = list(arrays)
    if len(keys) != 1:
        raise InputError(f"{path} holds {len(keys)} arrays: {', '.join(keys)}", hint="expected one array of row numbers")
    return arrays[keys[0]]


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


_READERS: dict[type, Callable[[Path], NDArray[np.int64]]] = {sizes.FromFile: _sizes, arrivals.Trace: _counts, ids.Trace: _rows}
