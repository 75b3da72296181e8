"""Partitions and access profiles as files, for builds in shards."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.partition import partition_file
from recsplit.partition.access import frequencies
from recsplit.plan.plan import Segment


def partition(shards: Sequence[Sequence[Segment]], *, profile: Path | None = None) -> partition_file.Partition:
    """Shards of these segments, on servers of their own but for the first; by the heat of the access profile, where there is one."""
    layouts = [
        partition_file.ShardLayout(tuple(segments), "own" if number else "front", 1 + number, 1.0, 64)
        for number, segments in enumerate(shards)
    ]
    digest = None if profile is None else frequencies.digest(profile)
    return partition_file.Partition("m", digest, 100.0, "by hand", 1.0, "bytes", tuple(layouts))


def write_partition(path: Path, shards: Sequence[Sequence[Segment]], *, profile: Path | None = None) -> Path:
    """`partition` in a file."""
    path.write_text(partition_file.to_json(partition(shards, profile=profile)))
    return path


def profile_file(path: Path, rows: Mapping[str, int], *, seed: int = 0, model: str = "m") -> Path:
    """An access profile with random counts for each row of each table."""
    random = np.random.default_rng(seed)
    counts: dict[str, NDArray[np.uint32]] = {name: random.integers(0, 1000, size, dtype=np.uint32) for name, size in rows.items()}
    with path.open("wb") as file:
        frequencies.write(file, frequencies.About(model, 100, 100, 0, ("random",)), counts.items())
    return path
