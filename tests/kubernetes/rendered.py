"""A partitioned plan, its files and values, for tests of what is rendered from them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from recsplit.kubernetes.files import ModelFile
from recsplit.kubernetes.groups import groups
from recsplit.kubernetes.sizing import first_values
from recsplit.kubernetes.values import Values
from recsplit.plan.plan import Location, Plan, Segment, Shard, Submodel
from tests.configs.plans import shop

#: The build of `sharded`, as names and labels have it.
BUILD = "0f5e0f5e"

#: Stands for the files of the backend `remote`.
BACKEND = {"model.py": "# the backend\n"}

Files = Mapping[str, Sequence[ModelFile]]


def partitioned(plan: Plan, *locations: Location, replicas: int = 2) -> Plan:
    """The plan with one shard a place; what their models take is not looked at here."""
    shards = tuple(
        Shard(
            model=Submodel(f"{plan.embedding.name}_{number}", "shard", (), (), "onnxruntime", "cpu", 1, 2),
            partials=(),
            segments=(Segment("items", 1000 * number, 1000 * (number + 1)),),
            ranges=(),
            location=location,
            replicas=replicas,
            size_bytes=64_000,
        )
        for number, location in enumerate(locations)
    )
    return dataclasses.replace(plan, shards=shards)


def sharded() -> Plan:
    """A shard that stays in the front, and two with servers of their own."""
    return partitioned(shop(build=2 * BUILD), "front", "own", "own")


def files_of(plan: Plan, *, size_bytes: int = 1000) -> Files:
    """One file for each model that some group loads from files."""
    return {
        model: (ModelFile(PurePosixPath(f"{model}/config.pbtxt"), size_bytes, "0" * 64),)
        for group in groups(plan)
        for model in group.models
    }


def values_of(plan: Plan, *, p95_bound_ms: float | None = 25, max_qps: float | None = 120) -> Values:
    """First values, with every group scaled where the arguments aren't None."""
    values = first_values(plan, dict.fromkeys(files_of(plan), 1000), p95_bound_ms=p95_bound_ms)
    return dataclasses.replace(values, shards=tuple(dataclasses.replace(shard, max_qps=max_qps) for shard in values.shards))
