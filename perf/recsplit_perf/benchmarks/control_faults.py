"""Whether queries are ever worse off with the controller than without: `python -m recsplit_perf.benchmarks.control_faults`.

A model whose dense model is artificially heavy and has as many instances as its load needs, on a real Triton beside a real Prometheus.
Something goes wrong in the middle of the load: once with `recsplit control` at its defaults beside it, and once without. The queries are
the same.
"""

import contextlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.arrivals import Poisson, draw
from recsplit.capacity.search import percentile_ms
from recsplit.commands.output import progress, show_table
from recsplit.disk.files import whole_file
from recsplit.errors import RecsplitError
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.values.decision import Action
from recsplit_controller.values.settings import Target
from recsplit_perf.machine import provenance
from recsplit_perf.processes.heavier import heavier
from recsplit_perf.processes.instances import instances
from recsplit_perf.processes.started import Started, started
from recsplit_perf.processes.watched import recsplit
from recsplit_perf.traffic import open_loop, queries

FACTORY, NAME, MODEL = "recsplit.zoo.tiny:dlrm", "shop", "shop_dense"
#: Three instances are busy for half of the time: the controller's own aim is 60 %.
HEAVY_MS, INSTANCES, RATE, BOUND_MS, PERCENT = 25.0, 3, 60.0, 150.0, 95
#: The heavy model waits, and takes no cores: this machine's own are no bound. All else is as it is by default.
SETTINGS = "cores = 64\n"
SETTLED_S, FAULT_S, TIMEOUT_S = 20.0, 10.0, 30.0


@dataclass
class Running:
    """What a fault acts on. `control`: the controller's process, None without one."""

    repository: Path
    serving: Started
    control: Started | None
    again: Callable[[], Started]

    @property
    def prometheus(self) -> int:
        """The process of the Prometheus that `recsplit serve` started: its child with a configuration of its own."""
        children = Path(f"/proc/{self.serving.process.pid}/task/{self.serving.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if b"--config.file" in Path(f"/proc/{pid}/cmdline").read_bytes())

    def scale(self, count: int) -> None:
        """As another hand would."""
        actuator = TritonActuator(self.serving.said["grpc_url"], self.repository, [Target(MODEL, MODEL, "dense")])
        actuator.begin(Action("scale", MODEL, count, 0.0, "another hand's"))
        while not actuator.outcomes():
            threading.Event().wait(0.1)
        actuator.close()


def _kill_controller(running: Running) -> None:
    if running.control is not None:
        running.control.process.kill()
        running.control.process.wait()
        running.control = running.again()


#: What goes wrong, FAULT_S after the load began.
FAULTS: Mapping[str, Callable[[Running], None]] = {
    "nothing": lambda _: None,
    "Prometheus is killed": lambda running: os.kill(running.prometheus, signal.SIGKILL),
    "Prometheus hangs": lambda running: os.kill(running.prometheus, signal.SIGSTOP),
    "an instance is killed": lambda running: os.kill(min(instances(running.serving.said["pid"], MODEL)), signal.SIGKILL),
    "Triton is killed": lambda running: os.kill(running.serving.said["pid"], signal.SIGKILL),
    "another hand takes two instances": lambda running: running.scale(1),
    "another hand gives three more": lambda running: running.scale(INSTANCES + 3),
    "the controller is killed, and begins anew": _kill_controller,
}


@click.command()
@click.option("--seconds", type=click.IntRange(20), default=60, show_default=True, help="Of load in each run.")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Of all of it; each with queries of its own.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(seconds: int, rounds: int, output: Path | None) -> None:
    """Let things go wrong under load, with the controller and without, and compare the queries."""
    origin = provenance()
    with tempfile.TemporaryDirectory(prefix="recsplit-control-faults-") as name:
        try:
            rows = benchmark(Path(name), seconds, rounds)
        except RecsplitError as error:
            raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    show_table(list(rows[0]), [list(row.values()) for row in rows])
    if output is not None:
        settings = {
            "factory": FACTORY,
            "heavy_ms": HEAVY_MS,
            "instances": INSTANCES,
            "rate": RATE,
            "bound_ms": BOUND_MS,
            "seconds": seconds,
            "rounds": rounds,
            "fault_s": FAULT_S,
            "controller": SETTINGS,
        }
        result = {"benchmark": "control_faults", **origin, "settings": settings, "rows": rows}
        with whole_file(output) as file:
            file.write((json.dumps(result, indent=1) + "\n").encode())


def benchmark(folder: Path, seconds: int, rounds: int) -> list[dict[str, Any]]:
    """Every fault with the controller and without, a row each, over the queries of all rounds. Raises RecsplitError where a build or a
    server fails."""
    with progress(f"Building {FACTORY}"):
        built = ["build", FACTORY, "-o", str(folder / "light"), "--name", NAME, "--embedding-runtime", "onnxruntime"]
        recsplit([*built, "--dense-instances", str(INSTANCES), "--max-batch-size", "64"], folder)
    plan = find(folder / "light").plan
    repository = heavier(folder / "light", folder / "heavy", MODEL, HEAVY_MS)
    (folder / "settings.toml").write_text(SETTINGS)
    latencies: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for number in range(rounds):
        for place, (fault, act) in enumerate(FAULTS.items()):
            for case in ("with", "without"):
                with progress(f"{fault}, {case} the controller: {seconds} s of load, round {number + 1}"):
                    logs = folder / f"{number}-{place}-{case}"
                    after = run(plan, repository, logs, act, seconds, acts=case == "with", seed=number)
                latencies.setdefault((fault, case), []).append(after)
    rows = []
    for fault in FAULTS:
        row: dict[str, Any] = {"fault": fault}
        for case in ("with", "without"):
            row |= {f"{key} {case}": value for key, value in _seen(np.concatenate(latencies[fault, case])).items()}
        rows.append(row)
    return rows


def run(
    plan: Plan, repository: Path, logs: Path, act: Callable[[Running], None], seconds: int, *, acts: bool, seed: int
) -> NDArray[np.float64]:
    """One run on servers of its own: latencies in ms of the queries due from the fault on, float64 [n]; infinite where they failed."""
    logs.mkdir()
    pool = [queries.ready(plan, samples.rows(plan, 1, np.random.default_rng(seed))) for seed in range(50)]
    times_s = draw(Poisson(RATE), float(seconds), np.random.default_rng((7, seed)))
    choice = np.random.default_rng((8, seed)).integers(0, len(pool), len(times_s))
    with ExitStack() as stack:
        serving = stack.enter_context(started(["serve", str(repository), "--prometheus", "--json"], logs / "serve.log"))
        said = serving.said
        arguments = ["control", str(repository), "--prometheus", said["prometheus_url"], "--grpc-url", said["grpc_url"]]
        arguments += ["--settings", str(logs.parent / "settings.toml"), "--json"]

        def control() -> Started:
            log = logs / f"control-{len(list(logs.glob('control-*')))}.log"
            return stack.enter_context(started(arguments, log, announces=False))

        running = Running(repository, serving, control() if acts else None, control)
        threading.Event().wait(SETTLED_S)
        fault = threading.Timer(FAULT_S, act, (running,))
        fault.start()
        sent = open_loop.send(said["http_url"], pool, times_s, choice, warmup_s=0.0, seconds=float(seconds), timeout_s=TIMEOUT_S)
        fault.join()
        _go_on(running)
    return sent.latency_ms[sent.due_s >= FAULT_S]


def _seen(after: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "failed": int(np.isinf(after).sum()),
        "late": int((np.isfinite(after) & (after > BOUND_MS)).sum()),
        "p95_ms": _plain(percentile_ms(after, PERCENT)),
        "queries": len(after),
    }


def _go_on(running: Running) -> None:
    """A Prometheus that hangs can't be ended."""
    with contextlib.suppress(StopIteration):  # where it was killed
        os.kill(running.prometheus, signal.SIGCONT)


def _plain(value: float) -> float | None:
    return round(value, 2) if np.isfinite(value) else None


if __name__ == "__main__":
    command()
