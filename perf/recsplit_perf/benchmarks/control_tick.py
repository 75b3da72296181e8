"""What a tick of the controller costs with many sub-models: `python -m recsplit_perf.benchmarks.control_tick`.

Loop, reading of Prometheus' answer, core, reconciling, journal and metrics are as they are; the traffic is made up, and actions are done
at once. Processor time of this process; making up the answer isn't counted. Memory after every tenth of the ticks.
"""

import gc
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from recsplit.cli import collect_less
from recsplit.commands.output import progress, show_table
from recsplit_controller.forecast import named
from recsplit_controller.observe.recording_rules import DATA_S, PREFIX, observation
from recsplit_controller.shell.journal import Journal
from recsplit_controller.shell.loop import Loop
from recsplit_controller.shell.metrics import Meters
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target
from recsplit_perf.machine import provenance

ENSEMBLE = "whole"
INTERVAL_S = 5.0
#: The journal is turned over often enough that its last size doesn't fill a small disk.
JOURNAL_BYTES = 16 << 20


class FakeModels:
    """Observer and actuator of models that nobody serves: rates rise and fall with periods of their own, and actions are done at once.

    `made_s`: processor time that making up Prometheus' answers took so far.
    """

    def __init__(self, models: int) -> None:
        self.targets = tuple(Target(f"model_{n}", f"model_{n}", "shard" if n % 2 else "dense") for n in range(models))
        self.made_s = 0.0
        self._names = (ENSEMBLE, *(target.model for target in self.targets))
        self._counts: dict[str, int] = {target.name: 1 for target in self.targets}
        self._ended: list[Outcome] = []

    def observe(self, at_s: float) -> Observation:
        """Read an answer as long as Prometheus' is."""
        began_s = time.process_time()
        text = json.dumps(self._answer(at_s))
        self.made_s += time.process_time() - began_s
        return observation(at_s, ENSEMBLE, self._names, json.loads(text)["data"]["result"])

    def _answer(self, at_s: float) -> dict[str, Any]:
        models = {ENSEMBLE: Series(requests=40.0, mean_ms=70.0, p50_ms=60.0, p95_ms=90.0, p99_ms=99.0)}
        for number, target in enumerate(self.targets):
            rate = 40.0 * (1.1 + math.sin(at_s / (200.0 + number)))
            busy = min(0.05 * rate, float(self._counts[target.name]))
            pending = 3.0 * max(0.0, 0.05 * rate - busy)
            models[target.model] = Series(rate, 8 * rate, rate / 2, 0.0, busy, pending, pending, None, 55.0, 50.0, 60.0, 70.0)
        values = [
            (what, model, value)
            for model, series in models.items()
            for what, value in [*vars(series).items(), (DATA_S, at_s - 1.0)]
            if value is not None
        ]
        samples = [
            {"metric": {"__name__": f"{PREFIX}{what}", "ensemble": ENSEMBLE, "model": model}, "value": [at_s, f"{value:.12g}"]}
            for what, model, value in values
        ]
        return {"status": "success", "data": {"resultType": "vector", "result": samples}}

    def counts(self) -> Mapping[str, Count]:
        """As was asked for."""
        return {name: Count.steady(count) for name, count in self._counts.items()}

    def begin(self, action: Action) -> None:
        """Do it."""
        self._counts[action.target] = action.count
        self._ended.append(Outcome(action, None, 0.01))

    def outcomes(self) -> Sequence[Outcome]:
        """Of all that was begun."""
        ended, self._ended = self._ended, []
        return ended

    def ill(self) -> Mapping[str, str]:
        """Nobody."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


@click.command()
@click.option("--models", type=click.IntRange(1), default=200, show_default=True, help="Sub-models, each of them a target.")
@click.option("--ticks", type=click.IntRange(20), default=10_000, show_default=True, help="Each of 5 s of the controller's time.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(models: int, ticks: int, output: Path | None) -> None:
    """Processor time of a tick and memory over many of them, for each policy."""
    collect_less()  # as `recsplit control` does: the many small objects of an answer set off collections of everything else
    origin = provenance()
    measurements = [
        measure(policy, models, ticks if policy == "utilization" else max(20, ticks // 10))
        for policy in ("utilization", "latency", "elasticrec")
    ]
    columns = ("policy", "ticks", "actions", "cpu p50 ms", "cpu p99 ms", "cpu max ms", "MB after 1/10", "MB at the end")
    rows = [
        (
            row["policy"],
            row["ticks"],
            row["actions"],
            row["p50_ms"],
            row["p99_ms"],
            row["max_ms"],
            row["resident_mb"][0],
            row["resident_mb"][-1],
        )
        for row in measurements
    ]
    show_table(columns, rows, title=f"A tick with {models} sub-models")
    if output is not None:
        output.write_text(json.dumps({"benchmark": "control_tick", **origin, "models": models, "policies": measurements}, indent=1) + "\n")


def measure(policy: str, models: int, ticks: int) -> dict[str, Any]:
    """A loop of so many ticks: processor time of each, and resident memory after each tenth of them."""
    fake_models = FakeModels(models)
    settings = Settings(policy=policy, bound_ms=100.0, cores=2.0 * models, downscale_delay_s=60.0)
    at_s = 1_000_000.0

    def clock() -> float:
        nonlocal at_s
        at_s += INTERVAL_S
        return at_s

    cpu_s, actions = np.empty(ticks), 0
    resident_mb: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        progress(f"{policy}: {ticks} ticks", total=ticks) as advance,
        Journal(Path(folder) / "journal.jsonl", settings, fake_models.targets, most_bytes=JOURNAL_BYTES) as journal,
    ):
        shows = [Meters(settings, fake_models.targets)]
        forecaster = named(settings.forecaster)
        loop = Loop(settings, forecaster, fake_models.targets, fake_models, fake_models, journal, shows, clock=clock)
        for tick in range(ticks):
            began_s, made_s = time.process_time(), fake_models.made_s
            record = loop.tick()
            cpu_s[tick] = time.process_time() - began_s - (fake_models.made_s - made_s)
            assert record is not None, "a tick failed"
            actions += len(record.actions)
            if (tick + 1) % (ticks // 10) == 0:
                gc.collect()
                resident_mb.append(round(resident_bytes() / 1e6, 1))
                advance(ticks // 10)
    p50, p99 = (float(value) for value in np.percentile(1000 * cpu_s, (50, 99)))
    return {
        "policy": policy,
        "ticks": ticks,
        "actions": actions,
        "p50_ms": round(p50, 2),
        "p99_ms": round(p99, 2),
        "max_ms": round(float(1000 * cpu_s.max()), 2),
        "resident_mb": resident_mb,
    }


def resident_bytes() -> int:
    """Memory of this process, from /proc."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    command()
