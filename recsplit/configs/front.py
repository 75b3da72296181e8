"""A front server of a fleet as one model of recsplit's engine: its config.pbtxt, and what is done before, between and after the shards.

Where a front has the engine, and every shard elsewhere has a CSR form with vectors of FP32: else the front is an ensemble with a model of
backend "remote" for each shard (configs.fleet).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import text_format

from recsplit.configs.check import parameter, parse
from recsplit.configs.engine import engine_config
from recsplit.configs.fleet import Asking, shard_readings
from recsplit.configs.render import render
from recsplit.plan.files import CONFIG_FILE, LOOKUPS_PARAMETER, PARTS_PARAMETER
from recsplit.plan.plan import Plan, Tensor
from recsplit.plan.recipe import SCHEMA

#: Batches on their way to the shards, while the next ones wait in Triton's queue and become one.
_BATCHES_AT_ONCE = 2


def can_be_one(plan: Plan) -> bool:
    """Whether a plan's front can be one model of the engine."""
    names = {plan.embedding.name, plan.dense.name, *(shard.model.name for shard in plan.shards)}
    elsewhere = [number for number, shard in enumerate(plan.shards) if shard.location == "own"]
    readings = [(number, reading, places) for number in elsewhere for _, reading, places in shard_readings(plan, number)]
    outputs = {partial.output for number in elsewhere for partial in plan.shards[number].partials}
    asked = {_output(plan, number, reading.output) for number, reading, _ in readings}
    return bool(elsewhere) and names <= plan.native and outputs == asked and all(places.dtype == "FP32" for _, _, places in readings)


def front_recipe(plan: Plan, embedding_text: str, addresses: Mapping[str, Sequence[str]], asking: Asking, *, await_s: int = 0) -> str:
    """engine.json of the front. `embedding_text`: the embedding model's config.pbtxt; `addresses`: host:port of HTTP of the servers of each
    shard elsewhere, by its number.
    """
    lookups = parameter(parse(embedding_text, origin=f"{plan.embedding.name}/{CONFIG_FILE}"), LOOKUPS_PARAMETER)
    before: dict[str, Any] = engine_config(plan.embedding.inputs, plan.embedding.outputs, plan.max_batch_size)
    if lookups is not None:
        before["parameters"] = {LOOKUPS_PARAMETER: {"string_value": lookups}}
    local = [shard.model for shard in plan.shards if shard.location == "front"]
    local_outputs = {tensor.name for model in local for tensor in model.outputs}
    read = {tensor.name: tensor for model in (*local, plan.dense) for tensor in model.inputs if tensor.name not in local_outputs}
    outputs = local_outputs | {tensor.name for tensor in plan.dense.outputs}
    after = engine_config(tuple(read.values()), tuple(output for output in plan.outputs if output.name in outputs), plan.max_batch_size)
    tensors = {tensor.name: tensor for tensor in plan.embedding.outputs}
    shards = [_shard(plan, number, tensors, addresses[str(number)]) for number, shard in enumerate(plan.shards) if shard.location == "own"]
    remote = {
        "timeout_ms": asking.timeout_ms,
        "hedge_ms": asking.hedge_ms,
        "attempts": asking.attempts,
        "probe_ms": asking.probe_ms,
        "resolve_ms": asking.resolve_ms,
        "await_ms": 1000 * await_s,
        "shards": shards,
    }
    front = {
        "before": {"models": [plan.embedding.name], "config": before},
        "remote": remote,
        "after": {"models": [*(model.name for model in local), plan.dense.name], "config": after},
    }
    return json.dumps({"schema": SCHEMA, "front": front}, separators=(",", ":")) + "\n"


def front_config(plan: Plan) -> str:
    """config.pbtxt of the front's model: a fused model's, but with several threads of Triton's, since each waits for its batch's shards."""
    text = render(dataclasses.replace(plan, form="fused"))[f"{plan.name}/{CONFIG_FILE}"]
    config = parse(text, origin=f"{plan.name}/{CONFIG_FILE}")
    for name in (PARTS_PARAMETER, LOOKUPS_PARAMETER):
        config.parameters.pop(name, None)
    config.ClearField("instance_group")
    config.instance_group.add(count=_BATCHES_AT_ONCE, kind="KIND_CPU")
    config.ClearField("model_warmup")  # nothing of it would be left by the time that the shards are there
    return str(text_format.MessageToString(config))


def _shard(plan: Plan, number: int, places_by_name: Mapping[str, Tensor], replicas: Sequence[str]) -> dict[str, Any]:
    model = plan.shards[number].model
    outputs = {tensor.name: tensor for tensor in model.outputs}
    bags = []
    for reading_number, reading, places in shard_readings(plan, number):
        output = _output(plan, number, reading.output)
        bags.append(
            {
                "number": reading_number,
                "places": reading.places,
                "places_dims": places_by_name[reading.places].dims,
                "output": output,
                "dims": outputs[output].dims,
                "dtype": places.dtype,
                "widths": reading.widths,
                "poolings": reading.poolings,
                "first": places.first,
                "last": places.last,
                "dim": places.dim,
            }
        )
    return {"model": model.name, "version": plan.version, "replicas": list(replicas), "bags": bags}


def _output(plan: Plan, number: int, boundary: str) -> str:
    return next(partial.output for partial in plan.shards[number].partials if partial.boundary == boundary)
