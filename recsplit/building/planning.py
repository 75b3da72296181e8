"""The plan of a build: made once, when everything that it says is known."""

import os
import secrets

import onnx_ir as ir

from recsplit.building.load_and_cut import CutSource
from recsplit.building.settings import BuildSettings
from recsplit.building.sharding import Sharding
from recsplit.graph.flow import upstream
from recsplit.plan.plan import Kind, Lookup, Plan, Role, Runtime, Submodel, Table
from recsplit.write import submodels

#: Of models in FP32 and FP64, and of those with half precision somewhere, the coarsest first.
TOLERANCE = 1e-5
_HALVES = {ir.DataType.BFLOAT16: 1e-1, ir.DataType.FLOAT16: 1e-2}


def make_plan(
    settings: BuildSettings,
    source: CutSource,
    version: int,
    tables: tuple[Table, ...],
    lookups: tuple[Lookup, ...],
    sharding: Sharding | None,
) -> Plan:
    """The plan of a source that was cut, `tables` and `lookups` with their limits; `sharding` where its tables are cut into shards."""
    cut = source.cut
    parts = (cut.embedding, cut.dense) if sharding is None else (sharding.cut.embedding, sharding.cut.dense)
    whole, embedding, dense = (submodels.interface(model) for model in (cut.whole, *parts))
    crossing = submodels.interface(cut.embedding).outputs  # before the shards, whose partial tensors have other names
    cores = os.cpu_count() or 1

    def submodel(role: Role, sides: submodels.Interface, runtime: Runtime, kind: Kind, instances: int, suffix: str = "") -> Submodel:
        threads = settings.threads or max(1, cores // instances)
        name = f"{settings.name}_{suffix or role}"
        return Submodel(name, role, sides.inputs, sides.outputs, runtime, kind, instances, threads)

    def shard(number: int, sides: submodels.Interface) -> Submodel:
        return submodel("shard", sides, "onnxruntime", "cpu", settings.embedding_instances, f"embedding_{number}")

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
        embedding=submodel("embedding", embedding, "onnxruntime", "cpu", settings.embedding_instances),
        shards=() if sharding is None else sharding.shards(tables, shard),
        readings=() if sharding is None else sharding.readings(settings.unknown_ids),
        dense=submodel("dense", dense, settings.dense_runtime, settings.dense_kind, settings.dense_instances),
        tolerance=tolerance_of(cut.whole) if settings.tolerance is None else settings.tolerance,
    )


def tolerance_of(whole: ir.Model) -> float:
    """The largest relative error between two right ways to compute the model: some twenty roundings of the narrowest float that an output
    depends on, for half precision; 1e-5, some eighty of FP32, for all others."""
    values = {value for output in whole.graph.outputs for value in upstream(output)}
    tensors = [value.const_value.dtype if value.const_value is not None else value.dtype for value in values]
    return next((tolerance for dtype, tolerance in _HALVES.items() if dtype in tensors), TOLERANCE)
