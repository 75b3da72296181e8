"""Builds switched under load: `python -m recsplit_perf.benchmarks.switches`.

Closed-loop clients over gRPC and HTTP ask a served model without pause, while `recsplit.rollback` takes the server from one of its builds
to the next and back: two of other weights, or one for each `--table-dtype`. Every answer is compared with those that each build gives
alone: one build's, another's than its version says, or nobody's (mixed). Then what builds take on the disk.
"""

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

import recsplit
from recsplit.building.build import Built
from recsplit.commands.output import show_table, steps
from recsplit.disk.files import whole_file
from recsplit.proof import samples
from recsplit.serving.switching.switch import Switched
from recsplit.zoo import tiny
from recsplit_perf.machine import provenance

NAME, MAX_BATCH = "shop", 64
#: Rows of the queries; the last one is split.
ROWS = (1, 8, 64, 200)
#: A query without an answer for so long failed.
HUNG_S = 20.0
#: With one build alone, to compare with.
STILL_S = 10.0

Query = dict[str, np.ndarray[Any, Any]]


@dataclass
class Answers:
    """What clients got. `latency_s` of those that one build gave: (when, seconds)."""

    by_build: Counter[int] = field(default_factory=Counter)
    mixed: int = 0
    mislabelled: int = 0
    failed: list[str] = field(default_factory=list)
    latency_s: list[tuple[float, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


@dataclass(frozen=True)
class Seen:
    """Queries that ended in one stretch of time."""

    phase: str
    seconds: float
    queries: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float


@click.command()
@click.option("--switches", type=click.IntRange(1), default=50, show_default=True)
@click.option("--clients", type=click.IntRange(1), default=16, show_default=True)
@click.option("--table-dtype", "stored", multiple=True, help="A build of equal weights whose tables are stored so; give several.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(switches: int, clients: int, stored: tuple[str, ...], output: Path | None) -> None:
    """Switch between builds under load, and classify every answer."""
    if len(stored) == 1:
        raise click.UsageError("--table-dtype: one build can't be switched")
    origin = provenance()
    with tempfile.TemporaryDirectory(prefix="recsplit-switches-") as name, steps() as show:
        result = benchmark(Path(name), switches, clients, stored, show)
    show_table(list(result["answers"]), [list(result["answers"].values())])
    show_table(list(result["switches"]), [list(result["switches"].values())])
    show_table(list(result["phases"][0]), [list(phase.values()) for phase in result["phases"]])
    show_table(list(result["disk_bytes"]), [list(result["disk_bytes"].values())])
    if output is not None:
        with whole_file(output) as file:
            file.write((json.dumps({"benchmark": "switches", **origin, **result}, indent=1) + "\n").encode())


def benchmark(folder: Path, switches: int, clients: int, stored: Sequence[str], show: Any) -> dict[str, Any]:
    """Build, serve, ask and switch; the result as plain values."""
    repository = folder / "models"
    disk_bytes, plan = {}, None
    versions = range(1, 1 + (len(stored) or 2))
    for number in versions:
        show(f"building version {number}", 0, 0)
        plan = build(repository, 1, (stored[number - 1],), keep=len(stored)).plan if stored else build(repository, number).plan
        disk_bytes[f"after {number} builds"] = used(repository)
    assert plan is not None
    answers, done, times = Answers(), list[Switched](), list[float]()
    with recsplit.serve(repository) as server:
        queries = [samples.rows(plan, rows, np.random.default_rng(rows)) for rows in ROWS]
        expected = {version: alone(repository, server, version, queries) for version in versions}
        stop = threading.Event()
        urls = [("grpc", server.grpc_url), ("http", server.http_url)]
        threads = [
            threading.Thread(target=ask, args=(*urls[number % 2], queries, expected, answers, stop, number)) for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            stop.wait(1.0)
            first = time.monotonic()
            for number in range(switches):
                show("switches", number, switches)
                begun = time.monotonic()
                done += recsplit.rollback(repository, version=1 + number % len(versions))
                times.append(time.monotonic() - begun)
            last = time.monotonic()
            stop.wait(STILL_S)
            end = time.monotonic()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    for number in () if stored else (3, 4, 5):
        show(f"building version {number}", 0, 0)
        build(repository, number)
        disk_bytes[f"after {number} builds"] = used(repository)
    return {
        "settings": {"model": "recsplit.zoo.tiny:dlrm", "clients": clients, "rows": list(ROWS), "max_batch_size": MAX_BATCH, "keep": 2}
        | ({"table_dtypes": stored} if stored else {}),
        "answers": {
            **{f"of version {version}": answers.by_build[version] for version in versions},
            "mixed": answers.mixed,
            "of another version than told": answers.mislabelled,
            "failed": len(answers.failed),
        },
        "failures": answers.failed[:10],
        "switches": {
            "count": len(done),
            "new_one_answers_after_s": median([each.answering_s for each in done]),
            "slowest_s": round(max(each.answering_s for each in done), 2),
            "old_one_gone_after_s": median(times),
            "slowest_gone_s": round(max(times), 2),
        },
        "phases": [asdict(seen(f"{switches} switches", answers, first, last)), asdict(seen("no switches", answers, last, end))],
        "disk_bytes": disk_bytes,
    }


def build(repository: Path, seed: int, stored: tuple[str, ...] = (), *, keep: int = 2) -> Built:
    """A build of the same model with other weights, whose tables are `stored` so."""
    torch.manual_seed(seed)
    module, inputs = tiny.dlrm()[:2]
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return recsplit.build(module, inputs, out=repository, name=NAME, max_batch_size=MAX_BATCH, search_s=0, keep=keep, table_dtype=stored)


def alone(repository: Path, server: recsplit.Server, version: int, queries: Sequence[Query]) -> list[recsplit.Answer]:
    """What one build answers when the server has no other."""
    recsplit.rollback(repository, version=version)
    with recsplit.Client(server.grpc_url, NAME) as client:
        return [client.infer(query) for query in queries]


def ask(
    protocol: Any,
    url: str,
    queries: Sequence[Query],
    expected: dict[int, list[recsplit.Answer]],
    answers: Answers,
    stop: threading.Event,
    number: int,
) -> None:
    """One client: query after query until told to stop, each answer classified."""
    with recsplit.Client(url, NAME, protocol, timeout_s=HUNG_S) as client:
        while not stop.is_set():
            number = (number + 1) % len(queries)
            begun = time.monotonic()
            try:
                answer = client.infer(queries[number])
            except recsplit.RecsplitError as error:
                with answers.lock:
                    answers.failed.append(str(error))
                continue
            ended = time.monotonic()
            builds = [version for version, whole in expected.items() if same(answer, whole[number])]
            with answers.lock:
                answers.latency_s.append((ended, ended - begun))
                if len(builds) != 1:
                    answers.mixed += 1
                else:
                    answers.by_build[builds[0]] += 1
                    answers.mislabelled += builds[0] != answer.version


def same(answer: recsplit.Answer, whole: recsplit.Answer) -> bool:
    """Whether an answer is a build's, but for what batching with others rounds."""
    return answer.keys() == whole.keys() and all(np.allclose(array, whole[name], rtol=1e-5, atol=1e-6) for name, array in answer.items())


def used(folder: Path) -> int:
    """Bytes of files, each once however many names it has."""
    files = {(status.st_dev, status.st_ino): status.st_size for path in folder.rglob("*") if path.is_file() for status in (path.stat(),)}
    return sum(files.values())


def median(seconds: Sequence[float]) -> float:
    """Of seconds."""
    return round(float(np.median(seconds)), 2)


def seen(phase: str, answers: Answers, first: float, last: float) -> Seen:
    """What clients saw between two times."""
    latency_ms = 1e3 * np.array([seconds for ended, seconds in answers.latency_s if first <= ended < last])
    p50, p99 = np.percentile(latency_ms, (50, 99))
    return Seen(
        phase,
        seconds=round(last - first, 1),
        queries=len(latency_ms),
        p50_ms=round(float(p50), 1),
        p99_ms=round(float(p99), 1),
        slowest_ms=round(float(latency_ms.max()), 1),
    )


if __name__ == "__main__":
    command()
