"""The configs of a fleet: a remote model in the front server for a shard, and the shard's CSR form on its own servers.

Both are made from the config.pbtxt of the shard as it was built, so that what was settled there (batching, threads, the version)
holds here too. Pure; where the servers are is the caller's: processes on this machine, or pods.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from recsplit.configs.check import parameter, parse
from recsplit.plan.files import BAGS_FILE, CONFIG_FILE, ENGINE_BACKEND, ENSEMBLE_PARAMETER, REMOTE_PARAMETER
from recsplit.plan.plan import Plan, Range, Reading


@dataclass(frozen=True)
class Asking:
    """How a front asks a shard. The defaults suit a local network and a bound of some hundred ms on the whole query.

    `timeout_ms` of one answer, after which another replica is asked, `attempts` in all; `hedge_ms`: ask a second one beside the
    first after so long (0: never); `probe_ms` between two probes of a replica that failed; `resolve_ms` between two look-ups of
    host names; `calls_at_once`: batches on their way for each replica. `hold_error_ms`: an error
    waits so long, for the other shards to answer first: Triton before 26.02 leaks a query of which one step fails while another is
    under way (core #466).
    """

    timeout_ms: int = 1000
    hedge_ms: int = 0
    attempts: int = 3
    probe_ms: int = 200
    resolve_ms: int = 5000
    calls_at_once: int = 2
    hold_error_ms: int = 100


def shard_readings(plan: Plan, shard: int) -> list[tuple[int, Reading, Range]]:
    """The readings that a shard takes part in: number in the plan, reading, and the places of it that are the shard's."""
    ranges = {item.places: item for item in plan.shards[shard].ranges}
    return [(number, reading, ranges[reading.places]) for number, reading in enumerate(plan.readings) if reading.places in ranges]


def remote_config(
    plan: Plan, shard: int, text: str, replicas: Sequence[str], *, bags: bool, asking: Asking | None = None, await_s: int = 0
) -> str:
    """config.pbtxt of the front's stand-in for a shard: same name, inputs and outputs, backend "remote".

    `text` is the shard's own config; `replicas` host:port of gRPC, where a name stands for all its addresses; `bags`: whether the
    servers there have the CSR form. `await_s`: the front isn't ready before one of them has answered, and gives up after that.
    """
    config = parse(text, origin=f"{plan.shards[shard].model.name}/{CONFIG_FILE}")
    _strip(config)
    config.backend = "remote"
    config.instance_group.add(count=1, kind="KIND_CPU")
    for tensor in (*config.input, *config.output):
        tensor.ClearField("reshape")  # the tensors pass as they are; the shard's own server reshapes
    outputs = {partial.boundary: partial.output for partial in plan.shards[shard].partials}
    settings: dict[str, Any] = {
        "model": config.name,
        "version": plan.version,
        "replicas": list(replicas),
        **dataclasses.asdict(asking or Asking()),
        "await_ms": 1000 * await_s,
        "bags": [
            {
                "number": number,
                "places": reading.places,
                "output": outputs[reading.output],
                "widths": reading.widths,
                "poolings": reading.poolings,
                "first": places.first,
                "last": places.last,
                "dim": places.dim,
            }
            for number, reading, places in (shard_readings(plan, shard) if bags else ())
        ],
    }
    config.parameters[REMOTE_PARAMETER].string_value = json.dumps(settings)
    return _print(config)


def bags_config(plan: Plan, shard: int, text: str) -> str:
    """config.pbtxt of a shard's CSR form: the same name and threads, rows and offsets in, pooled vectors out, no batch dimension."""
    config = parse(text, origin=f"{plan.shards[shard].model.name}/{CONFIG_FILE}")
    kept = {key: value.string_value for key, value in config.parameters.items()}
    groups = list(config.instance_group)
    _strip(config)
    config.instance_group.extend(groups)
    for key, value in kept.items():
        config.parameters[key].string_value = value
    for field in ("dynamic_batching", "input", "output"):
        config.ClearField(field)
    config.max_batch_size = 0
    if config.backend != ENGINE_BACKEND:
        config.backend = "onnxruntime"
    config.default_model_filename = BAGS_FILE  # what ONNX Runtime runs in the engine's place too
    for number, _, places in shard_readings(plan, shard):
        for name in ("rows", "offsets"):
            config.input.add(name=f"{name}_{number}", data_type="TYPE_INT32", dims=[-1])
        config.output.add(name=f"pooled_{number}", data_type=f"TYPE_{places.dtype}", dims=[-1, places.dim])
    return _print(config)


def _strip(config: Any) -> None:
    """Leave out what belongs to the runtime of the model that the config was written for."""
    ensemble = parameter(config, ENSEMBLE_PARAMETER)
    for field in ("instance_group", "default_model_filename", "model_warmup", "optimization", "parameters"):
        config.ClearField(field)
    if ensemble is not None:
        config.parameters[ENSEMBLE_PARAMETER].string_value = ensemble


def _print(config: Any) -> str:
    return str(text_format.MessageToString(config))
