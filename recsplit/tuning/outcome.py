"""What a tuning of a build found, as tuned.json has it: for whoever asks later why the build is served so."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from recsplit.capacity.search import Figures, figures
from recsplit.capacity.workload import LatencyBound
from recsplit.disk import bounded
from recsplit.plan.strict_json import read_json
from recsplit.tuning.race import Raced
from recsplit.tuning.setting import Setting
from recsplit.tuning.tune import Reason, Simulated

SCHEMA = 1
OUTCOME_FILE = "tuned.json"


@dataclass(frozen=True)
class Batch:
    """A step of the climb."""

    max_batch_size: int
    figures: Figures


@dataclass(frozen=True)
class Measured:
    """A setting, simulated or on servers."""

    setting: Setting
    figures: Figures


@dataclass(frozen=True)
class Because:
    """A knob that the choice turned, and the simulated throughput with that one turned back."""

    knob: str
    present: str
    chosen: str
    turned_back: Figures


@dataclass(frozen=True)
class Outcome:
    """A tuning of one build version: `settings` there were, of which these were simulated; on servers the first is the present one.

    `chosen` is the present one where none is certainly better; without servers the simulator's best. `published`: the version that has it.
    """

    model: str
    version: int
    workload: str
    bound_ms: float
    percentile: float
    cores: int
    settings: int
    climb: tuple[Batch, ...]
    simulated: tuple[Measured, ...]
    live: tuple[Measured, ...]
    present: Setting
    chosen: Setting
    reasons: tuple[Because, ...]
    published: int | None
    schema: int = SCHEMA


def outcome(
    *,
    model: str,
    version: int,
    workload: str,
    bound: LatencyBound,
    cores: int,
    settings: int,
    present: Setting,
    said: Simulated,
    raced: Raced[Setting] | None,
    chosen: Setting,
    reasons: list[Reason],
    published: int | None,
) -> Outcome:
    """Put together what the stages gave."""
    return Outcome(
        model=model,
        version=version,
        workload=workload,
        bound_ms=bound.bound_ms,
        percentile=bound.percentile,
        cores=cores,
        settings=settings,
        climb=tuple(Batch(step.value, figures(step.throughput)) for step in said.climb.steps),
        simulated=tuple(Measured(one.setting, figures(one.throughput)) for one in said.tried),
        live=() if raced is None else tuple(Measured(one.setting, figures(one.throughput)) for one in raced.tried),
        present=present,
        chosen=chosen,
        reasons=tuple(Because(one.knob, str(one.present), str(one.chosen), figures(one.turned_back)) for one in reasons),
        published=published,
    )


def to_json(value: Outcome) -> str:
    """The outcome as JSON that ends in a newline."""
    return json.dumps(dataclasses.asdict(value), indent=1) + "\n"


def read(folder: Path) -> Outcome:
    """The outcome in a tuning's folder. Raises InputError where there is none that can be read."""
    again = "recsplit tune DIR --workload W -o FOLDER writes one at its end"
    path = folder / OUTCOME_FILE
    text = bounded.read_text(path, bounded.RECORD_BYTES, hint=again)
    return read_json(Outcome, text, schema=SCHEMA, origin=str(path), again=again)
