"""Bad ids among good ones under load, by the engine: `python -m recsplit_perf.benchmarks.bad_ids`.

Closed-loop clients ask the tiny DLRM of the zoo, as an ensemble and fused; one request of a hundred has an id outside its table. Each good
one must be answered as the model answers it alone, each bad one refused in words that name its input, column, id, table and row.
"""

import json
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import recsplit
from recsplit.commands.output import progress, show_table
from recsplit.disk.files import whole_file
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit_perf.machine import provenance

FACTORY, FORMS = "recsplit.zoo.tiny:dlrm", ("ensemble", "fused")
#: Rows of the queries.
ROWS = (1, 8, 64)
#: A query without an answer for so long hangs.
HUNG_S = 10.0

Array = NDArray[Any]


@dataclass
class Seen:
    """What clients saw of one form."""

    form: str
    good: int = 0
    changed: int = 0
    failed: int = 0
    bad: int = 0
    refused: int = 0
    slowest_ms: float = 0.0
    examples: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, outcome: str, *, bad: bool, elapsed_ms: float) -> None:
        """One answer: a good query is to be answered, a bad one refused."""
        with self.lock:
            self.slowest_ms = round(max(self.slowest_ms, elapsed_ms), 1)
            self.bad, self.refused = self.bad + bad, self.refused + (outcome == "refused")
            self.good += not bad
            self.changed += outcome == "changed" and not bad
            self.failed += outcome.startswith("failed") and not bad
            if outcome != ("refused" if bad else "answered"):
                self.examples.append(outcome)


@click.command()
@click.option("--seconds", type=click.FloatRange(0.1), default=60.0, show_default=True, help="Of each form.")
@click.option("--clients", type=click.IntRange(1), default=16, show_default=True)
@click.option("--share", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Of the requests that have a bad id.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(seconds: float, clients: int, share: float, output: Path | None) -> None:
    """Ask with bad ids among good ones, and classify every answer."""
    origin = provenance()
    lines = []
    with tempfile.TemporaryDirectory(prefix="recsplit-bad-") as name:
        settings: dict[str, Any] = {"embedding_runtime": "native", "max_batch_size": 256, "search_s": 0}
        plans = [recsplit.build(FACTORY, out=Path(name) / "models", name=form, form=form, **settings).plan for form in FORMS]
        with recsplit.serve(Path(name) / "models") as server:
            for plan in plans:
                with progress(f"{plan.name}: {clients} clients for {seconds:g} s"):
                    lines.append(asked(server, plan, seconds, clients, share))
    columns = ("form", "good", "changed", "failed", "bad", "refused", "slowest_ms")
    show_table(columns, [[getattr(line, column) for column in columns] for line in lines])
    for line in lines:
        for text in line.examples[:2]:
            click.echo(text)
    if output is not None:
        shown = [{key: value for key, value in vars(line).items() if key != "lock"} for line in lines]
        with whole_file(output) as file:
            asking = {"factory": FACTORY, "seconds": seconds, "clients": clients, "share": share, "rows": ROWS}
            file.write((json.dumps({"benchmark": "bad_ids", **origin, "settings": asking, "forms": shown}, indent=1) + "\n").encode())
    if any(line.changed or line.failed or line.bad != line.refused for line in lines):
        raise SystemExit(1)


def asked(server: recsplit.Server, plan: Plan, seconds: float, clients: int, share: float) -> Seen:
    """One form, under all clients."""
    seen, stop = Seen(plan.name), threading.Event()
    threads = [threading.Thread(target=ask, args=(server.grpc_url, plan, seen, stop, share, number)) for number in range(clients)]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return seen


def ask(url: str, plan: Plan, seen: Seen, stop: threading.Event, share: float, number: int) -> None:
    """One client: query after query, each answer classified."""
    rng = np.random.default_rng(number)
    with recsplit.Client(url, plan.name, timeout_s=HUNG_S) as client:
        queries = [samples.rows(plan, rows, rng) for rows in ROWS]
        answers = [client.infer(query)["output"] for query in queries]
        while not stop.is_set():
            which = int(rng.integers(len(queries)))
            query, reasons = spoilt(plan, queries[which], rng) if rng.random() < share else (queries[which], ())
            begun = time.monotonic()
            try:
                answer = client.infer(query)["output"]
                outcome = "answered" if np.allclose(answer, answers[which], rtol=1e-5, atol=1e-6) else "changed"
            except recsplit.RecsplitError as error:
                outcome = "refused" if reasons and all(reason in str(error) for reason in reasons) else f"failed: {error}"
            seen.count(outcome, bad=bool(reasons), elapsed_ms=1e3 * (time.monotonic() - begun))


def spoilt(plan: Plan, query: dict[str, Array], rng: np.random.Generator) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The query with one id outside its table, and what the refusal must say of it."""
    lookup = plan.lookups[int(rng.integers(len(plan.lookups)))]
    (name,), bad = lookup.inputs, int(10**6 + rng.integers(10**6))
    ids = query[name].copy()
    by_column = ids.reshape(len(ids), -1)
    row, column = int(rng.integers(len(ids))), int(rng.integers(by_column.shape[1]))
    by_column[row, column] = bad
    place = f"'{name}' column {column}" if by_column.shape[1] > 1 else f"'{name}'"
    return {**query, name: ids}, (f"input {place}: id {bad} is outside table '{lookup.table}'", f"row {row}")


if __name__ == "__main__":
    command()
