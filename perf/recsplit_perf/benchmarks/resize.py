"""Instance counts changed in place under load: `python -m recsplit_perf.benchmarks.resize`.

Closed-loop clients ask a served model without pause, while the controller's actuator gives its sub-models other counts, one change
after the other. Then the trap: an execution that lasts long, so that the clients are a backlog which never ends. By itself, Triton ends no
load before a backlog has gone, though the new instances serve at once; as `recsplit serve` starts it, it does (docs/decisions/0012).
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from tritonclient.grpc import InferenceServerClient

from recsplit.commands.output import progress, show_table
from recsplit.disk.files import whole_file
from recsplit.errors import RecsplitError
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.settings import Target
from recsplit_perf.machine import provenance
from recsplit_perf.processes.heavier import heavier
from recsplit_perf.processes.instances import instances
from recsplit_perf.processes.watched import recsplit
from recsplit_perf.traffic.clients import Clients

FACTORY, NAME, ROWS = "recsplit.zoo.tiny:dlrm", "shop", 8
MOST = 4
#: A query without an answer for so long hangs; so does a change.
HUNG_S, CHANGE_S = 10.0, 60.0
HEAVY_MS = 20.0
TRAP = "--rate-limit=off"  # Triton's own way
#: The saturated part: before the change, and how long its load call is watched while the backlog lasts.
BEFORE_S, WATCHED_S = 3.0, 15.0
#: Without changes, to compare with.
STILL_S = 20.0
_LOOK_S = 0.01


@dataclass
class Readiness:
    """What the ensemble and the server said, asked every 10 ms."""

    asked: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Seen:
    """What clients saw in one stretch of time. `stall_ms`: the longest time in which no query of any client was answered."""

    phase: str
    seconds: float
    queries: int
    failed: int
    hung: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    stall_ms: float
    not_ready: int


@dataclass(frozen=True)
class Change:
    """A count given to a model: how long the load took, and how many of its instances' processes were the ones from before."""

    model: str
    before: int
    after: int
    seconds: float
    kept: int
    error: str | None


@click.command()
@click.option("--changes", type=click.IntRange(1), default=50, show_default=True)
@click.option("--clients", type=click.IntRange(1), default=16, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(changes: int, clients: int, output: Path | None) -> None:
    """Change instance counts in place under load, and count what clients see of it."""
    origin = provenance()
    try:
        with tempfile.TemporaryDirectory(prefix="recsplit-resize-") as name:
            result = benchmark(Path(name), changes, clients)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    phases = result["phases"]
    show_table(list(phases[0]), [list(phase.values()) for phase in phases])
    show_table(
        ["served as by", *result["saturated"]["triton"]],
        [[name, *measurements.values()] for name, measurements in result["saturated"].items()],
    )
    if output is not None:
        with whole_file(output) as file:
            file.write((json.dumps({"benchmark": "resize", **origin, **result}, indent=1) + "\n").encode())


def benchmark(folder: Path, changes: int, clients: int) -> dict[str, Any]:
    """Build, serve, ask and change; the result as plain values. Raises RecsplitError where a build or a server fails."""
    with progress(f"Building {FACTORY}"):
        recsplit(["build", FACTORY, "-o", str(folder / "light"), "--name", NAME, "--max-batch-size", "256"], folder)
    plan = find(folder / "light").plan
    with progress(f"{changes} changes under {clients} clients"):
        phases, done = resized(folder / "light", changes, clients)
    heavy = heavier(folder / "light", folder / "heavy", plan.dense.name, HEAVY_MS)
    with progress("A change under a backlog, as Triton makes it, and as recsplit lets it"):
        backlog = {"triton": saturated(heavy, clients, TRAP), "recsplit": saturated(heavy, clients)}
    seconds = [change.seconds for change in done]
    return {
        "settings": {"factory": FACTORY, "clients": clients, "rows": ROWS, "most": MOST, "heavy_ms": HEAVY_MS},
        "phases": [asdict(phase) for phase in phases],
        "changes": {
            "count": len(done),
            "failed": sum(change.error is not None for change in done),
            "reloads": sum(change.kept < min(change.before, change.after) for change in done),
            "median_s": round(float(np.median(seconds)), 3),
            "slowest_s": round(max(seconds), 3),
        },
        "saturated": backlog,
    }


def resized(repository: Path, changes: int, clients: int) -> tuple[list[Seen], list[Change]]:
    """So many changes, sub-models in turn, each to another count than before, under so many clients; and a while without changes."""
    plan = find(repository).plan
    models = [plan.dense.name, plan.embedding.name]
    rng = np.random.default_rng(0)
    done: list[Change] = []
    with serve(repository) as server, acting(server, repository, plan) as actuator, asking(server, plan, clients) as asked:
        with watching(server, plan) as ready:
            first = time.monotonic()
            for number in range(changes):
                model = models[number % len(models)]
                before = actuator.counts()[model] or 1
                count = int(rng.choice([other for other in range(1, MOST + 1) if other != before]))
                pids = instances(server.pid, model)
                outcome = ended(actuator, Action("scale", model, count, 0.0, "the benchmark's"), CHANGE_S)
                kept = len(pids & instances(server.pid, model))
                error = "the load did not end" if outcome is None else outcome.error
                done.append(Change(model, before, count, CHANGE_S if outcome is None else outcome.seconds, kept, error))
            last = time.monotonic()
        with watching(server, plan) as still:
            asked.stop.wait(min(last - first, STILL_S))
            end = time.monotonic()
    return [seen(f"{changes} changes", asked, first, last, ready), seen("no changes", asked, last, end, still)], done


def saturated(repository: Path, clients: int, *extra_args: str, watched_s: float = WATCHED_S) -> dict[str, Any]:
    """From one heavy instance to three while clients queue: the rate, and whether the load call ends within `watched_s`."""
    plan = find(repository).plan
    with serve(repository, extra_args=extra_args) as server, acting(server, repository, plan) as actuator:
        with asking(server, plan, clients) as asked:
            asked.stop.wait(BEFORE_S)
            begun = time.monotonic()
            actuator.begin(Action("scale", plan.dense.name, 3, 0.0, "the benchmark's"))
            asked.stop.wait(watched_s)
            hangs = not actuator.outcomes()
            count_meanwhile = actuator.counts()[plan.dense.name]
            other = ended(actuator, Action("scale", plan.embedding.name, 2, 0.0, "the benchmark's"), CHANGE_S)
            now = time.monotonic()
        stopped = time.monotonic()
        late = _outcome(actuator, CHANGE_S) if hangs else None
        ends_s = time.monotonic() - stopped
        counts = actuator.counts()
    return {
        "rate_before": round(asked.rate(begun - 2, begun), 1),
        "rate_after_3_s": round(asked.rate(begun + 3, begun + 5), 1),
        "rate_in_the_end": round(asked.rate(now - 3, now), 1),
        "load_hangs_after_s": watched_s if hangs else None,
        "count_told_meanwhile": count_meanwhile,
        "other_model_s": None if other is None else round(other.seconds, 2),
        "ends_without_load_s": round(ends_s, 2) if late is not None and late.error is None else None,
        "count_in_the_end": counts[plan.dense.name],
        "failed": len(asked.failed),
    }


@contextmanager
def acting(server: Server, repository: Path, plan: Plan) -> Iterator[TritonActuator]:
    """The controller's actuator for the sub-models of a served build."""
    targets = [Target(part.name, part.name, part.role) for part in plan.submodels]
    actuator = TritonActuator(server.grpc_url, repository, targets)
    try:
        yield actuator
    finally:
        actuator.close()


@contextmanager
def asking(server: Server, plan: Plan, clients: int) -> Iterator[Clients]:
    """So many clients that ask until the end, and a second in which they got going."""
    asked = Clients(server.grpc_url, plan, ROWS, HUNG_S)
    threads = [threading.Thread(target=asked.ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        asked.stop.wait(1.0)
        yield asked
    finally:
        asked.stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def watching(server: Server, plan: Plan) -> Iterator[Readiness]:
    """Ask again and again whether server and ensemble are ready."""
    readiness, stop = Readiness(), threading.Event()

    def look() -> None:
        with InferenceServerClient(server.grpc_url) as client:
            while not stop.wait(_LOOK_S):
                readiness.asked += 1
                readiness.refused += not (client.is_server_ready() and client.is_model_ready(plan.name))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield readiness
    finally:
        stop.set()
        thread.join()


def ended(actuator: TritonActuator, action: Action, timeout_s: float) -> Outcome | None:
    """Begin an action and wait for how it ends; None where it doesn't."""
    actuator.begin(action)
    return _outcome(actuator, timeout_s, lambda outcome: outcome.action == action)


def _outcome(actuator: TritonActuator, timeout_s: float, fits: Callable[[Outcome], bool] = lambda _: True) -> Outcome | None:
    pause, deadline = threading.Event(), time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for outcome in actuator.outcomes():
            if fits(outcome):
                return outcome
        pause.wait(_LOOK_S)
    return None


def seen(phase: str, asked: Clients, first: float, last: float, ready: Readiness) -> Seen:
    """What clients saw of the queries that ended between two times."""
    inside = [(sent, end) for sent, end in asked.answered if first <= end < last]
    latency_ms = 1e3 * np.array([end - sent for sent, end in inside])
    ends = np.sort([first, *(end for _, end in inside), last])
    failed = [what for at, what in asked.failed if first <= at < last]
    p50, p99 = np.percentile(latency_ms, (50, 99))
    return Seen(
        phase=phase,
        seconds=round(last - first, 1),
        queries=len(inside),
        failed=len(failed),
        hung=failed.count("hung"),
        p50_ms=round(float(p50), 1),
        p99_ms=round(float(p99), 1),
        slowest_ms=round(float(latency_ms.max()), 1),
        stall_ms=round(1e3 * float(np.diff(ends).max()), 1),
        not_ready=ready.refused,
    )


if __name__ == "__main__":
    command()
