"""What a queue policy costs: `python -m recsplit_perf.benchmarks.queue_policy`.

Triton's dynamic batcher hands batches to instances ahead of time, except where a default timeout, allow_timeout_override,
max_queue_size or priorities are set (core: PriorityQueue::SupportPrefetching). Then it waits until an instance waits, and
a request that comes in the moment between an answer and that waits for the batcher's next look: half a second later.
This counts such requests, for one model served five times, with one client and with four.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from recsplit.commands.output import progress, show_table
from recsplit.plan.plan import Tensor
from recsplit.serving import serve
from recsplit_perf.benchmarks.whole import identity
from recsplit_perf.machine import provenance
from recsplit_perf.traffic import closed_loop

POLICIES = {
    "no policy": "",
    "default timeout": "default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 1000000 }",
    "timeout override": "default_queue_policy { allow_timeout_override: true }",
    "queue size": "default_queue_policy { max_queue_size: 100000 }",
    "priorities": "priority_levels: 2 default_priority_level: 1",
}
CONCURRENCY = (1, 4)
STALL_MS = 400.0

CONFIG = """
name: "{name}" backend: "onnxruntime" max_batch_size: 64
input [{{ name: "x" data_type: TYPE_FP32 dims: [8] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [8] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
dynamic_batching {{ {policy} }}
"""


@click.command()
@click.option("--seconds", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Each measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each kind.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(seconds: float, rounds: int, output: Path | None) -> None:
    """Count the requests that wait half a second, by queue policy."""
    origin = provenance()  # first: the commit and the load are those that the measurement meets
    rows = measure(seconds, rounds)
    columns = ("policy", "clients", "requests", "stalls", "stalls_per_1000", "p50_ms", "p99_ms", "max_ms")
    show_table(columns, [[row[column] for column in columns] for row in rows], title=f"Requests of more than {STALL_MS:.0f} ms")
    if output is not None:
        result = {"benchmark": "queue_policy", **origin, "seconds": seconds, "rounds": rounds, "stall_ms": STALL_MS, "cases": rows}
        output.write_text(json.dumps(result, indent=1) + "\n")


def measure(seconds: float, rounds: int) -> list[dict[str, Any]]:
    """One row for each policy and number of clients, all rounds together; policies alternate within a round."""
    names = {policy: policy.replace(" ", "_") for policy in POLICIES}
    latencies: dict[tuple[str, int], list[np.ndarray[Any, np.dtype[np.float64]]]] = {}
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder:
        repository = Path(folder)
        for policy, name in names.items():
            (repository / name / "1").mkdir(parents=True)
            onnx.save(identity(Tensor("x", "FP32", (8,))), repository / name / "1" / "model.onnx")
            (repository / name / "config.pbtxt").write_text(CONFIG.format(name=name, policy=POLICIES[policy]))
        query = {"x": np.zeros((4, 8), dtype=np.float32)}
        with (
            serve(repository, models=list(names.values())) as server,
            progress("Measuring", total=rounds * len(names) * len(CONCURRENCY)) as advance,
        ):
            for _ in range(rounds):
                for policy, name in names.items():
                    for clients in CONCURRENCY:
                        samples = closed_loop.run(server.grpc_url, name, [query], seconds=seconds, concurrency=clients)
                        latencies.setdefault((policy, clients), []).append(samples.latency_ms)
                        advance(1)
    return [_row(policy, clients, np.concatenate(samples)) for (policy, clients), samples in latencies.items()]


def _row(policy: str, clients: int, latency_ms: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    stalls = int((latency_ms > STALL_MS).sum())
    p50, p99 = (round(float(value), 3) for value in np.percentile(latency_ms, (50, 99)))
    return {
        "policy": policy,
        "clients": clients,
        "requests": len(latency_ms),
        "stalls": stalls,
        "stalls_per_1000": round(1000 * stalls / len(latency_ms), 2),
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": round(float(latency_ms.max()), 1),
    }


if __name__ == "__main__":
    command()
