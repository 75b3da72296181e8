"""What a tuning has tried, on disk as soon as it is known: one JSON line each, so that an interrupted one goes on where it was."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from recsplit.capacity.search import Throughput, Trial, Verdict, figures, finite
from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.strict_json import parse, read, read_json
from recsplit.tuning.setting import Setting
from recsplit.tuning.split import Split

SCHEMA = 1
#: Of a ledger: ten thousand lines.
MOST_BYTES = 1 << 26
LEDGER_FILE = "tried.jsonl"

#: What a throughput is of: the settings of a build, or of a router.
Asked = TypeVar("Asked", Setting, Split)

#: Where a throughput comes from: the simulator, or a real server.
Stage = Literal["simulated", "live"]


@dataclass(frozen=True)
class About:
    """What is tuned: a ledger of anything else is refused. `workload`: as Workload.describe has it."""

    model: str
    build: str
    workload: Mapping[str, Any]
    cores: int
    schema: int = SCHEMA


@dataclass(frozen=True)
class Line:
    """A setting's throughput in queries per second, its 95 % interval (`high` None: no end was seen), and on a server the trials.

    `trials`: rate, percentile in ms (None: too many failed), queries, and whether the generator kept up.
    """

    stage: Stage
    setting: Setting | Split
    rate: float
    low: float
    high: float | None
    verdict: Verdict
    trials: tuple[tuple[float, float | None, int, bool], ...] = ()

    @property
    def throughput(self) -> Throughput:
        """The same as the search had it."""
        trials = tuple(Trial(rate, math.inf if ms is None else ms, queries, kept_up) for rate, ms, queries, kept_up in self.trials)
        return Throughput(self.rate, self.low, math.inf if self.high is None else self.high, self.verdict, trials)


def line(stage: Stage, setting: Setting | Split, throughput: Throughput) -> Line:
    """What is written of a throughput; trials of the simulator are not kept: it has them again."""
    trials = tuple((trial.rate, finite(trial.percentile_ms), trial.queries, trial.kept_up) for trial in throughput.trials)
    return Line(stage, setting, **vars(figures(throughput)), trials=trials if stage == "live" else ())


class Ledger:
    """Lines in the order of their writing. `lines` holds those of earlier runs first."""

    def __init__(self, folder: Path, about: About, *, resume: bool) -> None:
        """Begin a ledger in `folder`, which exists, with its first line, or go on with the one there. Raises InputError where there is one
        and `resume` is not set, or it is of something else."""
        self._path = folder / LEDGER_FILE
        self._about = about
        self.lines: list[Line] = []
        if not self._path.exists():
            return
        if not resume:
            raise InputError(f"{folder} holds another tuning", hint="go on with it: --resume; or give another folder with -o")
        before, self.lines = read_ledger(self._path)
        if before != _as_read(about):
            raise InputError(f"{self._path} is of another build, workload or number of cores", hint="give another folder with -o")
        with self._path.open("rb+") as file:  # what a kill cut short
            file.truncate(file.read().rfind(b"\n") + 1)

    def add(self, stage: Stage, setting: Setting | Split, throughput: Throughput) -> None:
        """Write a line at once."""
        if not self._path.exists():
            self._write(json.dumps(dataclasses.asdict(self._about)))
        self.lines.append(line(stage, setting, throughput))
        self._write(json.dumps(dataclasses.asdict(self.lines[-1])))

    def all_of(self, stage: Stage, setting: Setting | Split) -> list[Throughput]:
        """What a stage has had for a setting, in order."""
        return [one.throughput for one in self.lines if (one.stage, one.setting) == (stage, setting)]

    def once(self, stage: Stage, setting: Asked, evaluate: Callable[[Asked], Throughput]) -> Throughput:
        """What a stage has had for a setting last; where there is nothing, what `evaluate` says, which is kept."""
        before = self.all_of(stage, setting)
        if not before:
            before = [evaluate(setting)]
            self.add(stage, setting, before[0])
        return before[-1]

    def _write(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def read_ledger(path: Path) -> tuple[About, list[Line]]:
    """What a ledger is about, and its lines. A last line that a kill cut short is left out. Raises InputError for any other broken one."""
    again = "tune again: recsplit tune DIR --workload W -o FOLDER"
    text = bounded.read_text(path, MOST_BYTES, hint=again)
    texts = text[: text.rfind("\n") + 1].splitlines()
    if not texts:
        raise InputError(f"{path} is empty", hint=again)
    about = read_json(About, texts[0], schema=SCHEMA, origin=f"{path}, line 1", again=again)
    lines = []
    for number, one in enumerate(texts[1:], 2):
        where = f"{path}, line {number}"
        lines.append(read(Line, parse(one, origin=where, again=again), where, again))
    return about, lines


def _as_read(about: About) -> About:
    return read_json(About, json.dumps(dataclasses.asdict(about)), schema=SCHEMA, origin="this tuning", again="")
