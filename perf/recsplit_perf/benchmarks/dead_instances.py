"""Instances killed under load: `python -m recsplit_perf.benchmarks.dead_instances`.

`recsplit serve` runs a model while clients ask without pause, and the process of one instance is killed again and again, of the embedding
and the dense model in turn. How long until every instance has a process again, how long until the last query failed by it, how many failed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from recsplit.commands.output import progress, show_table
from recsplit.disk.files import whole_file
from recsplit.repository.find import find
from recsplit.serving.upkeep import watch
from recsplit_perf.machine import provenance
from recsplit_perf.processes.watched import recsplit
from recsplit_perf.traffic.clients import Clients, asking

FACTORY, NAME, ROWS = "recsplit.zoo.tiny:dlrm", "shop", 8
INSTANCES = 2
HUNG_S = 20.0
#: How long is waited for a new process, and how long the clients go on afterwards.
WAIT_S, REST_S = 60.0, 2.0
_LOOK_S = 0.02


@click.command()
@click.option("--kills", type=click.IntRange(1), default=20, show_default=True)
@click.option("--clients", type=click.IntRange(1), default=8, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(kills: int, clients: int, output: Path | None) -> None:
    """Kill instances' processes under load, and see how soon they are replaced."""
    origin = provenance()
    with tempfile.TemporaryDirectory(prefix="recsplit-dead-") as name:
        result = benchmark(Path(name), kills, clients)
    show_table(list(result["kills"][0]), [list(kill.values()) for kill in result["kills"]])
    show_table(list(result["summary"]), [list(result["summary"].values())])
    if output is not None:
        with whole_file(output) as file:
            file.write((json.dumps({"benchmark": "dead_instances", **origin, **result}, indent=1) + "\n").encode())


def benchmark(folder: Path, kills: int, clients: int) -> dict[str, Any]:
    """Build, serve, ask and kill; the result as plain values. Raises RecsplitError where a build fails."""
    with progress(f"Building {FACTORY}"):
        instances = ["--embedding-instances", str(INSTANCES), "--dense-instances", str(INSTANCES)]
        recsplit(
            [
                "build",
                FACTORY,
                "-o",
                str(folder / "models"),
                "--name",
                NAME,
                "--search-s",
                "0",
                "--embedding-runtime",
                "onnxruntime",
                *instances,
            ],
            folder,
        )
    plan = find(folder / "models").plan
    with (
        served(folder / "models") as (address, private),
        asking(Clients(address, plan, ROWS, HUNG_S), clients, begin_s=2.0) as asked,
        progress(f"{kills} instances are killed"),
    ):
        done = [kill((plan.embedding, plan.dense)[number % 2].name, private, asked) for number in range(kills)]
    replaced = [each["replaced_s"] for each in done]
    return {
        "settings": {"factory": FACTORY, "clients": clients, "rows": ROWS, "instances": INSTANCES},
        "kills": done,
        "summary": {
            "kills": len(done),
            "not_replaced": replaced.count(None),
            "median_s": round(float(np.median([seconds for seconds in replaced if seconds is not None])), 2),
            "slowest_s": max(seconds for seconds in replaced if seconds is not None),
            "queries": len(asked.answered),
            "failed": len(asked.failed),
            "hung": sum(what == "hung" for _, what in asked.failed),
        },
    }


def kill(model: str, private: str, asked: Clients) -> dict[str, Any]:
    """Kill one instance of a model, and wait until there are as many processes as before; what the clients saw of it."""
    before = next(pids for (name, _), pids in watch.processes(private).items() if name == model)
    failed, begun = len(asked.failed), time.monotonic()
    os.kill(min(before), signal.SIGKILL)
    replaced_s = None
    while time.monotonic() - begun < WAIT_S:
        present = next((pids for (name, _), pids in watch.processes(private).items() if name == model), frozenset())
        if len(present) == INSTANCES and not before & present:  # all are replaced, and the healthy ones ended after the new ones served
            replaced_s = round(time.monotonic() - begun, 2)
            break
        asked.stop.wait(_LOOK_S)
    asked.stop.wait(REST_S)
    failures = asked.failed[failed:]
    return {
        "model": model,
        "replaced_s": replaced_s,
        "failed": len(failures),
        "last_failed_s": round(max(at for at, _ in failures) - begun, 2) if failures else None,
    }


@contextmanager
def served(repository: Path) -> Iterator[tuple[str, str]]:
    """`recsplit serve` with its defaults: its gRPC address, and the name of the server's private folder."""
    command = [sys.executable, "-m", "recsplit", "serve", str(repository), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            server = json.loads(process.stdout.readline())
            yield server["grpc_url"], Path(f"/proc/{server['pid']}/cwd").resolve().name
        finally:
            process.terminate()  # heard in a background job as well, which is deaf to Ctrl-C


if __name__ == "__main__":
    command()
