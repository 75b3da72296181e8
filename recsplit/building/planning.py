"""The plan of a build: made once, when everything that it says is known."""

import os
import secrets

from recsplit.building.load_and_cut import CutSource
from recsplit.building.ordering import ByHeat
from recsplit.building.runtimes import Runtimes
from recsplit.building.settings import BuildSettings
from recsplit.building.sharding import Sharding
from recsplit.graph.precision import half
from recsplit.plan.plan import Kind, Lookup, Plan, Role, Runtime, Submodel, Table
from recsplit.write import submodels

#: The largest relative error between two right ways to compute a model, by the half precision that an output depends on, if any: some
#: twenty roundings of that, or some eighty of FP32.
_TOLERANCE = {None: 1e-5, "FP16": 1e-2, "BF16": 1e-1}


def make_plan(
    settings: BuildSettings,
    source: CutSource,
    version: int,
    tables: tuple[Table, ...],
    lookups: tuple[Lookup, ...],
    sharding: Sharding | None,
    runtimes: Runtimes,
    order: ByHeat | None,
) -> Plan:
    """The plan of a source that was cut, `tables` and `lookups` with their limits; `sharding` where its tables are cut into shards."""
    cut = source.cut
    parts = (cut.embedding, cut.dense) if sharding is None else (sharding.cut.embedding, sharding.cut.dense)
    whole, embedding, dense = (submodels.interface(model) for model in (cut.whole, *parts))
    crossing = submodels.interface(cut.embedding).outputs  # before the shards, whose partial tensors have other names
    threads = settings.threads or _threads(settings, 0 if sharding is None else sharding.in_front())

    def submodel(role: Role, sides: submodels.Interface, runtime: Runtime, kind: Kind, instances: int, suffix: str = "") -> Submodel:
        name = f"{settings.name}_{suffix or role}"
        return Submodel(name, role, sides.inputs, sides.outputs, runtime, kind, instances, threads)

    def shard(number: int, sides: submodels.Interface) -> Submodel:
        return submodel("shard", sides, runtimes.embedding, "cpu", settings.embedding_instances, f"embedding_{number}")

    return Plan(
        name=settings.name,
        version=version,
        build=settings.build_id or secrets.token_hex(8),
        source=source.loaded.source,
        max_batch_size=settings.max_batch_size,
        queue_delay_us=settings.queue_delay_us,
        queue_timeout_us=settings.queue_timeout_ms * 1000,
        unknown_ids=settings.unknown_ids,
        inputs=whole.inputs,
        outputs=whole.outputs,
        boundary=tuple(tensor for tensor in crossing if tensor.name in cut.boundary),
        tables=tables,
        lookups=lookups,
        bags=cut.bags,
        embedding=submodel("embedding", embedding, runtimes.embedding, "cpu", settings.embedding_instances),
        shards=() if sharding is None else sharding.shards(tables, shard),
        losses=source.losses,
        ordered_by="" if order is None else order.digest,
        resident=() if order is None else order.resident,
        readings=() if sharding is None else sharding.readings(settings.unknown_ids),
        dense=submodel("dense", dense, runtimes.dense, settings.dense_kind, settings.dense_instances),
        form=settings.form,
        tolerance=_TOLERANCE[half(cut.whole)] if settings.tolerance is None else settings.tolerance,
    )


def _threads(settings: BuildSettings, front_shards: int) -> int:
    """This machine's cores divided by all the instances that share them.

    On NVIDIA's backend the threads of ONNX Runtime spin while they wait: with as many as cores for each part, an ensemble of two parts
    does half of what it can (measured: batch 64, 4 clients, 15.5 ms against 6.1).
    """
    if settings.form == "fused":
        instances = settings.embedding_instances
    else:
        instances = settings.embedding_instances * (1 + front_shards) + (settings.dense_instances if settings.dense_kind == "cpu" else 0)
    return max(1, (os.cpu_count() or 1) // instances)
