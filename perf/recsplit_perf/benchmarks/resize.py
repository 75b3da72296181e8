"""Instance counts changed under load: `python -m recsplit_perf.benchmarks.resize`.

Closed-loop clients ask a served model without pause, while the controller's actuator gives its sub-models other counts, one change
after the other, or with --together both at once; with --runtime native they are counts of the engine's workers. Then, of instances, a
backlog: an execution that lasts long, so that the clients wait in line for as long as they ask; new instances must serve all the same,
and the change must end with it (docs/decisions/0012).
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.actuate.workers import WorkersActuator, has_engine
from recsplit_controller.targets.targets import of_plan
from recsplit_controller.values.decision import Action, Outcome
from recsplit_perf.machine import provenance
from recsplit_perf.processes.heavier import heavier
from recsplit_perf.processes.watched import recsplit
from recsplit_perf.traffic.clients import Clients, asking, asking_apart

FACTORY, NAME, ROWS = "recsplit.zoo.tiny:dlrm", "shop", 8
MOST = 4
#: A query without an answer for so long hangs; so does a change.
HUNG_S, CHANGE_S = 10.0, 60.0
HEAVY_MS = 20.0
#: The part with a backlog: before the change, and how long its load call is watched.
BEFORE_S, WATCHED_S = 3.0, 15.0
#: Without changes, to compare with: as long as with them, for the longest of more silences is longer; but no longer than this.
STILL_S = 120.0
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
    """A count given to a model, and how long the load took."""

    model: str
    before: int
    after: int
    seconds: float
    error: str | None


@click.command()
@click.option("--changes", type=click.IntRange(1), default=50, show_default=True)
@click.option("--clients", type=click.IntRange(1), default=16, show_default=True)
@click.option("--runtime", type=click.Choice(["onnxruntime", "native"]), default="onnxruntime", show_default=True)
@click.option("--together", is_flag=True, help="Change both models at once, each after its own last change.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(changes: int, clients: int, runtime: str, together: bool, output: Path | None) -> None:
    """Change instance counts under load, and count what clients see of it."""
    origin = provenance()
    try:
        with tempfile.TemporaryDirectory(prefix="recsplit-resize-") as name:
            result = benchmark(Path(name), changes, clients, runtime, together=together)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    phases = result["phases"]
    show_table(list(phases[0]), [list(phase.values()) for phase in phases])
    if result["saturated"] is not None:
        show_table(list(result["saturated"]), [list(result["saturated"].values())])
    if output is not None:
        with whole_file(output) as file:
            file.write((json.dumps({"benchmark": "resize", **origin, **result}, indent=1) + "\n").encode())


def benchmark(folder: Path, changes: int, clients: int, runtime: str, *, together: bool = False) -> dict[str, Any]:
    """Build, serve, ask and change; the result as plain values. Raises RecsplitError where a build or a server fails."""
    with progress(f"Building {FACTORY}"):
        arguments = ["--name", NAME, "--max-batch-size", "256", "--embedding-runtime", runtime]
        recsplit(["build", FACTORY, "-o", str(folder / "light"), *arguments], folder)
    plan = find(folder / "light").plan
    with progress(f"{changes} changes under {clients} clients"):
        phases, done = resized(folder / "light", changes, clients, together=together)
    backlog = None
    if runtime == "onnxruntime":  # the engine has no load call that could wait for a backlog
        heavy = heavier(folder / "light", folder / "heavy", plan.dense.name, HEAVY_MS)
        with progress("A change under a backlog"):
            backlog = saturated(heavy, clients)
    seconds = [change.seconds for change in done]
    settings = {"factory": FACTORY, "clients": clients, "rows": ROWS, "most": MOST, "together": together, "runtime": runtime}
    return {
        "settings": {**settings, "heavy_ms": HEAVY_MS},
        "phases": [asdict(phase) for phase in phases],
        "changes": {
            "count": len(done),
            "failed": sum(change.error is not None for change in done),
            "median_s": round(float(np.median(seconds)), 4),
            "slowest_s": round(max(seconds), 4),
        },
        "saturated": backlog,
    }


def resized(repository: Path, changes: int, clients: int, *, together: bool = False) -> tuple[list[Seen], list[Change]]:
    """So many changes under so many clients, each to another count than before; and a while without changes.

    The sub-models change in turn, or with `together` beside each other.
    """
    plan = find(repository).plan
    models = [plan.dense.name, plan.embedding.name]
    done: list[Change] = []
    with (
        serve(repository) as server,
        acting(server, repository, plan) as actuator,
        asking_apart(Clients(server.grpc_url, plan, ROWS, HUNG_S), clients) as asked,
    ):
        with watching(server, plan) as ready:
            first = time.monotonic()
            groups = [models] if together else [[model] for model in models]
            for number in range(-(-changes // len(groups[0]))):
                done += change(actuator, groups[number % len(groups)], number)
            last = time.monotonic()
        with watching(server, plan) as still:
            asked.stop.wait(min(last - first, STILL_S))
            end = time.monotonic()
    return [seen(f"{changes} changes", asked, first, last, ready), seen("no changes", asked, last, end, still)], done


def change(actuator: Actuator, models: Sequence[str], seed: int) -> list[Change]:
    """Give each of the models another count, at once, and wait for all."""
    rng = np.random.default_rng(seed)
    before = {name: count.serving for name, count in actuator.counts().items()}
    counts = {model: int(rng.choice([other for other in range(1, MOST + 1) if other != before[model]])) for model in models}
    for model, count in counts.items():
        actuator.begin(Action("scale", model, count, 0.0, "the benchmark's"))
    pause, deadline = threading.Event(), time.monotonic() + CHANGE_S
    outcomes: dict[str, Outcome] = {}
    while len(outcomes) < len(models) and time.monotonic() < deadline:
        outcomes |= {outcome.action.target: outcome for outcome in actuator.outcomes()}
        pause.wait(_LOOK_S)
    return [
        Change(model, before[model] or 1, count, outcome.seconds, outcome.error)
        if (outcome := outcomes.get(model)) is not None
        else Change(model, before[model] or 1, count, CHANGE_S, "the load did not end")
        for model, count in counts.items()
    ]


def saturated(repository: Path, clients: int, *, watched_s: float = WATCHED_S) -> dict[str, Any]:
    """From one heavy instance to three while clients queue: the rate, and whether the load call ends within `watched_s`."""
    plan = find(repository).plan
    with serve(repository) as server, acting(server, repository, plan) as actuator:
        with asking(Clients(server.grpc_url, plan, ROWS, HUNG_S), clients, begin_s=1.0) as asked:
            asked.stop.wait(BEFORE_S)
            begun = time.monotonic()
            actuator.begin(Action("scale", plan.dense.name, 3, 0.0, "the benchmark's"))
            asked.stop.wait(watched_s)
            hangs = not actuator.outcomes()
            count_meanwhile = actuator.counts()[plan.dense.name].serving
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
        "count_in_the_end": counts[plan.dense.name].serving,
        "failed": len(asked.failed),
    }


@contextmanager
def acting(server: Server, repository: Path, plan: Plan) -> Iterator[Actuator]:
    """The controller's actuator for the sub-models of a served build."""
    targets = of_plan(plan, engine=has_engine(server.grpc_url))
    by_engine = targets[0].unit == "worker"
    actuator = WorkersActuator(server.grpc_url, targets) if by_engine else TritonActuator(server.grpc_url, repository, targets)
    try:
        yield actuator
    finally:
        actuator.close()


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


def ended(actuator: Actuator, action: Action, timeout_s: float) -> Outcome | None:
    """Begin an action and wait for how it ends; None where it doesn't."""
    actuator.begin(action)
    return _outcome(actuator, timeout_s, lambda outcome: outcome.action == action)


def _outcome(actuator: Actuator, timeout_s: float, fits: Callable[[Outcome], bool] = lambda _: True) -> Outcome | None:
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
