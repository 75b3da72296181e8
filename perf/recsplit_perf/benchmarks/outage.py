"""Servers of a fleet killed under load: `python -m recsplit_perf.benchmarks.outage`.

RM1 with few rows, two servers of the hot rows and one of the cold ones. Clients ask one front without pause and compare every answer
with the one that they got before anything happened. One server of the hot rows is killed (SIGKILL) and started again, then the only
one of the cold rows. Queries of both shards, and of the hot rows alone are counted apart: the second kind needs no cold server.
"""

import itertools
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import ids
from recsplit.client import Client
from recsplit.client.failures import ServerError
from recsplit.commands.output import progress, show_table
from recsplit.errors import RecsplitError
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving.fleet.fleet import Fleet, serve_fleet
from recsplit_perf.benchmarks.fleet_systems import FLEET, LAW, REPLICAS, WHOLE, build, write_partition
from recsplit_perf.machine import provenance

SCALE, ROWS = 0.001, 4
BOTH, HOT = "both shards", "hot rows only"
#: Largest difference between two answers to one query that is the order of a sum.
TOLERANCE = 1e-4


@dataclass
class Asked:
    """One query: when it was sent and answered, s of the clock, and what became of it: "answered", "wrong", or the error's kind."""

    kind: str
    sent_s: float
    ended_s: float
    result: str


@dataclass
class Clients:
    """Threads that ask without pause, half of them each kind of query."""

    url: str
    plan: Plan
    queries: dict[str, list[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]]
    asked: list[Asked] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, kind: str) -> None:
        """One thread's work."""
        with Client(self.url, self.plan.name, timeout_s=10) as client:
            while not self.stop.is_set():
                for inputs, expected in self.queries[kind]:
                    start = time.monotonic()
                    try:
                        answer = client.infer(inputs)
                        same = all(np.allclose(answer[name], data, rtol=0, atol=TOLERANCE) for name, data in expected.items())
                        result = "answered" if same else "wrong"
                    except ServerError as error:
                        result = error.kind
                    self.asked.append(Asked(kind, start, time.monotonic(), result))


@dataclass(frozen=True)
class Phase:
    """What happened in one stretch of time. `slowest_ms`: of all queries, failed ones included; `p95_ms` of the answered ones."""

    phase: str
    queries: str
    asked: int
    answered: int
    failed: int
    wrong: int
    p95_ms: float | None
    slowest_ms: float


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=4.0, show_default=True, help="Between two events.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(seconds: float, output: Path | None) -> None:
    """Kill servers of a fleet under load, and count what its clients see of it."""
    try:
        result = benchmark(seconds)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    phases: Sequence[dict[str, Any]] = result["phases"]
    show_table(list(phases[0]), [list(phase.values()) for phase in phases])
    click.echo(f"Answered again {result['back_s']:.2f} s after the cold server was ready.")
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def benchmark(seconds: float) -> dict[str, Any]:
    """Build, serve, load, kill; the result as plain values. Raises RecsplitError where a build or a server fails."""
    origin = provenance()
    with tempfile.TemporaryDirectory(prefix="recsplit-outage-") as name:
        folder = Path(name)
        with progress("Building RM1 with few rows, whole and in two shards"):
            build(folder / WHOLE, SCALE)
            plan = find(folder / WHOLE).plan
            write_partition(folder, plan, "own")
            build(folder / FLEET, SCALE, "--partition", str(folder / "partition.json"), "--access", str(folder / "access.npz"))
        with progress("Starting the fleet"):
            fleet = serve_fleet(folder / FLEET, replicas=REPLICAS)
        with fleet:
            clients = Clients(fleet.fronts[0].grpc_url, plan, prepare(fleet, plan))
            threads = [threading.Thread(target=clients.run, args=(kind,)) for kind in (BOTH, HOT) for _ in range(2)]
            for thread in threads:
                thread.start()
            try:
                with progress("Killing servers under load"):
                    marks = events(fleet, seconds)
            finally:
                clients.stop.set()
                for thread in threads:
                    thread.join()
    back_s = next(item.ended_s for item in sorted(clients.asked, key=lambda item: item.ended_s) if _back(item, marks[-2][1])) - marks[-2][1]
    phases = [
        phase(name, kind, [item for item in clients.asked if item.kind == kind and start <= item.sent_s < end])
        for (name, start), (_, end) in itertools.pairwise(marks)
        for kind in (BOTH, HOT)
    ]
    return {
        "benchmark": "outage",
        **origin,
        "settings": {"rows_scale": SCALE, "query_rows": ROWS, "replicas": REPLICAS, "seconds": seconds},
        "back_s": round(back_s, 3),
        "phases": [asdict(item) for item in phases],
    }


def events(fleet: Fleet, seconds: float) -> list[tuple[str, float]]:
    """Kill and start servers; what each stretch of time was, and when it began; the last one is the end."""
    pause = threading.Event()  # never set: waits
    marks = [("all servers", time.monotonic())]
    pause.wait(seconds)
    for part, what in (("0", "one of two hot servers killed"), ("1", "the only cold server killed")):
        member = fleet.member(part)
        assert member.server is not None
        marks.append((what, time.monotonic()))
        os.kill(member.server.pid, signal.SIGKILL)
        pause.wait(seconds)
        fleet.start_member(member)
        marks.append(("it is back", time.monotonic()))
        pause.wait(seconds)
    return [*marks, ("end", time.monotonic())]


def prepare(fleet: Fleet, plan: Plan) -> dict[str, list[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]]:
    """Queries of both kinds, each with the answer of the fleet while all its servers run."""
    rng = np.random.default_rng(1)

    def hot(low: int, limit: int, shape: tuple[int, ...]) -> NDArray[Any]:
        return low + ids.at_rank(rng.integers(0, round(LAW.hot_rows * (limit - low)), shape), limit - low)

    queries_by_kind: dict[str, list[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]] = {}
    with Client(fleet.fronts[0].grpc_url, plan.name) as client:
        for kind, draw in ((BOTH, samples.by_law(LAW, rng)), (HOT, hot)):
            inputs = [samples.rows(plan, ROWS, rng, draw=draw) for _ in range(20)]
            queries_by_kind[kind] = [(query, client.infer(query)) for query in inputs]
    return queries_by_kind


def phase(name: str, kind: str, asked: Sequence[Asked]) -> Phase:
    """The queries of one kind that were sent in one stretch."""
    answered = [item for item in asked if item.result == "answered"]
    wrong = sum(item.result == "wrong" for item in asked)
    times_ms = [1e3 * (item.ended_s - item.sent_s) for item in answered]
    return Phase(
        name,
        kind,
        asked=len(asked),
        answered=len(answered),
        failed=len(asked) - len(answered) - wrong,
        wrong=wrong,
        p95_ms=round(float(np.percentile(times_ms, 95)), 1) if times_ms else None,
        slowest_ms=round(max(1e3 * (item.ended_s - item.sent_s) for item in asked), 1) if asked else 0.0,
    )


def _back(item: Asked, since_s: float) -> bool:
    return item.kind == BOTH and item.result == "answered" and item.ended_s > since_s


if __name__ == "__main__":
    command()
