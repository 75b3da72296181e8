"""The partition: which rows of which tables make up each shard, as frozen values and their JSON.

Made once by `recsplit partition`, read by `recsplit build --partition`; what a shard's servers do at this moment is not here.
A table's rows are counted in ranks: rank 0 is the row that is read most. The order comes from an access profile.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.plan import Location, Segment, Table
from recsplit.plan.strict_json import read_json

SCHEMA = 2


@dataclass(frozen=True)
class ShardLayout:
    """One shard: its rows, and what the partition reckoned for it.

    `replicas` at the target traffic; `gathers_per_query`: rows that one query reads from it, in the mean; `size_bytes`: its rows.
    """

    segments: tuple[Segment, ...]
    location: Location
    replicas: int
    gathers_per_query: float
    size_bytes: int


@dataclass(frozen=True)
class Partition:
    """How the tables of one model are cut into shards; every row of every table is in one shard, and in no other.

    `access`: the SHA-256 of the access profile that the ranks follow, None where every table keeps its own order.
    `target_qps`: queries a second that the replicas are for. `algorithm`: the name of the one that chose the cuts.
    `cost` is in the unit of `cost_unit` (bytes of allocated memory in the paper's own objective).
    """

    model: str
    access: str | None
    target_qps: float
    algorithm: str
    cost: float
    cost_unit: str
    shards: tuple[ShardLayout, ...]
    schema: int = SCHEMA


def to_json(partition: Partition) -> str:
    """The partition as indented JSON that ends in a newline."""
    return json.dumps(dataclasses.asdict(partition), indent=1) + "\n"


def read(path: Path) -> Partition:
    """Read the partition in a file. Raises InputError as `from_json` does, and where there is no such text."""
    text = bounded.read_text(path, bounded.RECORD_BYTES, hint="recsplit partition DIR -o partition.json writes one")
    return from_json(text, origin=str(path))


def from_json(text: str, *, origin: str = "partition.json") -> Partition:
    """Read a partition strictly. Raises InputError on broken JSON, another schema number, or an unknown, missing or ill-typed key."""
    return read_json(Partition, text, schema=SCHEMA, origin=origin, again="make it again: recsplit partition DIR")


def check(partition: Partition, rows: Mapping[str, int]) -> None:
    """Raise InputError unless the partition's segments cover every row of the tables (`rows` by name), each once."""
    again = "make the partition again for this model: recsplit partition DIR"
    segments = [segment for shard in partition.shards for segment in shard.segments]
    foreign = sorted({segment.table for segment in segments} - set(rows))
    if foreign:
        raise InputError(f"the partition has tables that the model doesn't: {', '.join(foreign)}", hint=f"it has {', '.join(rows)}")
    missing = sorted(set(rows) - {segment.table for segment in segments})
    if missing:
        raise InputError(f"the partition leaves out the tables {', '.join(missing)}", hint=again)
    for number, shard in enumerate(partition.shards):
        if not shard.segments:
            raise InputError(f"shard {number} of the partition has no rows", hint=again)
        if shard.replicas < 1:
            raise InputError(f"shard {number} of the partition has {shard.replicas} replicas", hint="every shard needs one at least")
    for table, size in rows.items():
        end = 0
        for segment in sorted((item for item in segments if item.table == table), key=lambda item: (item.first, item.last)):
            if not segment.first < segment.last:
                raise InputError(f"the partition has the empty ranks [{segment.first}, {segment.last}) of table {table!r}", hint=again)
            if segment.first != end:
                twice, left_out = f"has ranks [{segment.first}, {end}) twice", f"leaves out ranks [{end}, {segment.first})"
                problem = twice if segment.first < end else left_out
                raise InputError(f"the partition {problem} of table {table!r}", hint=again)
            end = segment.last
        if end != size:
            raise InputError(f"the partition covers {end} rows of table {table!r}, which has {size}", hint=again)


def refuse_quantized(tables: Sequence[Table]) -> None:
    """Raise InputError for a table whose rows shards can't hold: of its quantized rows no partial results can be added up."""
    quantized = next((table for table in tables if table.dtype in ("INT8", "UINT8")), None)
    if quantized is not None:
        raise InputError(
            f"table {quantized.name!r} is {quantized.dtype}: shards add up partial results, and those of quantized rows don't add up",
            hint="build without a partition, or from a model whose tables are floats",
        )
