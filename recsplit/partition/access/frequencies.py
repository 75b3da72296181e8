"""The access profile: how often each row of each table was read, in one file.

A zip of one uncompressed .npy of counts a table (`counts/<table>.npy`, uint32, or uint64 where one doesn't fit) and `about.json`; np.load
opens it too. Tables are read from it one at a time, when they are asked for. The same counts give the same bytes, and so the same digest.
"""

import dataclasses
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from recsplit.disk import archive, bounded, npy
from recsplit.errors import InputError
from recsplit.plan.plan import Plan
from recsplit.plan.strict_json import read_json

SCHEMA = 1
Counts = NDArray[np.uint32] | NDArray[np.uint64]

#: The largest count that a uint32 holds.
WIDEST = 2**32 - 1
AGAIN = "recsplit access DIR --trace FILE -o access.npz writes one"
_ABOUT = "about.json"
_FOLDER = "counts/"


@dataclass(frozen=True)
class About:
    """What an access profile is of: the ensemble, the queries counted and their rows, ids outside their table (not counted),
    and in words where the accesses came from."""

    model: str
    queries: int
    rows: int
    unknown: int
    sources: tuple[str, ...]
    schema: int = SCHEMA


@dataclass(frozen=True)
class AccessProfile:
    """`tables`: reads of each row, [rows], by table, in the plan's order; each lookup in a profile from a file reads that file again."""

    about: About
    tables: Mapping[str, Counts]

    @property
    def queries(self) -> int:
        """How many queries were counted: one query reads counts.sum() / queries rows of a table, in the mean."""
        return self.about.queries

    @property
    def query_size(self) -> float:
        """Rows in a query, in the mean."""
        return self.about.rows / self.about.queries


def order(counts: Counts) -> NDArray[np.int32]:
    """The rows by heat: order[rank] = row, the most read first, ties by row number. int32 [rows]."""
    return np.argsort(~counts, kind="stable").astype(np.int32)  # ~ turns an unsigned order around, and keeps the ties


def ranks(by_heat: NDArray[np.int32]) -> NDArray[np.int32]:
    """The inverse of `order`: ranks[row] = rank. int32 [rows]."""
    rank_by_row = np.empty(len(by_heat), dtype=np.int32)
    rank_by_row[by_heat] = np.arange(len(by_heat), dtype=np.int32)
    return rank_by_row


def write(file: BinaryIO, about: About, tables: Iterable[tuple[str, Counts]]) -> None:
    """Write an access profile. Tables are taken one at a time, so that an iterator may make each when it is due."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
        zipped.writestr(zipfile.ZipInfo(_ABOUT), json.dumps(dataclasses.asdict(about), indent=1) + "\n")
        for name, counts in tables:
            with zipped.open(zipfile.ZipInfo(f"{_FOLDER}{name}.npy"), "w", force_zip64=True) as member:
                npy.write(cast(BinaryIO, member), counts)


def read(path: Path) -> AccessProfile:
    """Open an access profile. Raises InputError for anything that isn't one."""
    with _opened(path) as zipped:
        names = zipped.namelist()
        text = archive.read(zipped, _ABOUT, bounded.SETTINGS_BYTES)
        for name in names:
            if name != _ABOUT:
                _header(zipped, name)
    about = read_json(About, text, schema=SCHEMA, origin=f"{path}: {_ABOUT}", again="count again: recsplit access DIR")
    if about.queries < 1:
        raise InputError(f"{path} counted no queries", hint=AGAIN)
    return AccessProfile(about, _Stored(path, tuple(name.removeprefix(_FOLDER).removesuffix(".npy") for name in names if name != _ABOUT)))


def read_for(path: Path, plan: Plan) -> AccessProfile:
    """Open the access profile of the plan's model. Raises InputError as `read` and `check` do."""
    profile = read(path)
    check(profile, plan.name, {table.name: table.rows for table in plan.tables}, origin=str(path))
    return profile


def merged(profiles: list[AccessProfile]) -> tuple[About, Iterator[tuple[str, Counts]]]:
    """The sum of profiles of one model, for `write`: one table in memory at a time. Raises InputError where they don't belong together."""
    first = profiles[0]
    for other in profiles[1:]:
        if other.about.model != first.about.model:
            raise InputError(f"access profiles of {first.about.model!r} and {other.about.model!r} can't be added up")
        if list(other.tables) != list(first.tables):
            raise InputError("the access profiles have other tables", hint="count them for the same build")
    abouts = [profile.about for profile in profiles]
    about = About(
        first.about.model,
        sum(one.queries for one in abouts),
        sum(one.rows for one in abouts),
        sum(one.unknown for one in abouts),
        tuple(source for one in abouts for source in one.sources),
    )
    return about, ((name, _sum(name, (profile.tables[name] for profile in profiles))) for name in first.tables)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex. Raises InputError where it can't be read."""
    return bounded.digest(path, hint=AGAIN)


def check(profile: AccessProfile, model: str, rows: Mapping[str, int], *, origin: str) -> None:
    """Raise InputError unless the profile is of that model: its name, its tables and their rows."""
    again = "count again with this build: recsplit access DIR"
    if profile.about.model != model:
        raise InputError(f"{origin} is an access profile of {profile.about.model!r}, and the model is {model!r}", hint=again)
    if set(profile.tables) != set(rows):
        other = sorted(set(profile.tables) ^ set(rows))
        raise InputError(f"{origin}: its tables are not those of {model!r}: {', '.join(other[:5])}", hint=again)
    for name, size in rows.items():
        profile_rows = profile.tables.rows(name) if isinstance(profile.tables, _Stored) else len(profile.tables[name])
        if profile_rows != size:
            raise InputError(f"{origin}: table {name!r} has {profile_rows} rows, and in {model!r} it has {size}", hint=again)


class _Stored(Mapping[str, Counts]):
    """The tables in a file, each read when it is asked for, and checked against its checksum."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._path = path
        self._names = names

    def __getitem__(self, name: str) -> Counts:
        if name not in self._names:
            raise KeyError(name)
        complaint = f"has counts of {name!r} that can't be read"
        with _opened(self._path, complaint) as zipped, zipped.open(f"{_FOLDER}{name}.npy") as member:
            counts: Counts = npy.array(member, zipped.getinfo(member.name).file_size)
            member.read()  # to the end, where the checksum is
        return counts

    def rows(self, name: str) -> int:
        """Rows of a table, by its header."""
        with _opened(self._path) as zipped:
            return _header(zipped, f"{_FOLDER}{name}.npy")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _opened(path: Path, complaint: str = "is no access profile") -> AbstractContextManager[zipfile.ZipFile]:
    """An access profile's zip: its members aren't packed, so none unpacks to more than the file has."""
    return archive.opened(path, complaint, packings=archive.STORED, hint=AGAIN)


def _header(zipped: zipfile.ZipFile, name: str) -> int:
    """Rows by the header of a table's counts. Raises ValueError for any other array."""
    if not name.startswith(_FOLDER):
        raise ValueError(f"a member {name[:80]!r}")
    with zipped.open(name) as member:
        shape, _, dtype = npy.header(member)
    if len(shape) != 1 or dtype not in (np.dtype(np.uint32), np.dtype(np.uint64)):
        raise ValueError(f"{name} is {dtype} {list(shape)}")
    return int(shape[0])


def _sum(name: str, several: Iterator[Counts]) -> Counts:
    total: Counts = next(several)
    for counts in several:
        if len(counts) != len(total):
            raise InputError(f"table {name!r} has {len(total)} rows in one access profile and {len(counts)} in another")
        if total.dtype == counts.dtype == np.uint32 and int(total.max(initial=0)) + int(counts.max(initial=0)) <= WIDEST:
            total += counts
        else:
            total = total.astype(np.uint64) + counts
    return total if total.dtype == np.uint32 or int(total.max(initial=0)) > WIDEST else total.astype(np.uint32)
