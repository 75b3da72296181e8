"""A controller's journal as a timeline of the report: what it saw, decided and did, tick by tick."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recsplit.errors import InputError
from recsplit_controller.shell import journal
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.settings import Settings
from recsplit_controller.values.tick import Tick
from recsplit_perf.report import Section
from recsplit_perf.report.control import Change, Line, Timeline
from recsplit_perf.report.control import section as drawn


def section(path: Path) -> Section:
    """The section on a journal: every session in it, one after the other. Raises InputError as journal.sessions does, or of no tick."""
    sessions = [session for session in journal.sessions(path) if session.records]
    records = [record for session in sessions for record in session.records]
    settings = journal.latest(path).settings
    line = timeline(path.name, settings, records)
    if len(sessions) > 1:
        starts = [session.records[0].observation.at_s - records[0].observation.at_s for session in sessions]
        line = dataclasses.replace(line, marks=[(at_s, "start") for at_s in starts])
    lead = (
        f"{len(records):,} ticks of the policy {settings.policy}, from its journal. Wanted was decided; requested is what this"
        " controller asked for last, asked what there is to be, whoever asked for it; serving units answer."
    )
    return drawn("The controller", lead, [line])


def timeline(title: str, settings: Settings, records: Sequence[Tick], *, began_s: float | None = None) -> Timeline:
    """The journal's records over seconds since `began_s`, in Unix time (default: the first tick). Rate and latency are the servers' own
    of the ensemble; the percentile is of Triton's last minute. Raises InputError where there is no record."""
    if not records:
        raise InputError("the journal has no tick", hint="the controller writes one line a tick: let it run for longer")
    start_s = records[0].observation.at_s if began_s is None else began_s
    at_s = np.array([record.observation.at_s - start_s for record in records])

    def line(value: Callable[[Tick], float | None]) -> Line:
        return Line(at_s, np.array([np.nan if (number := value(record)) is None else number for record in records], dtype=np.float64))

    ensemble = records[0].observation.ensemble
    failures = line(lambda record: record.observation.of(ensemble).failures)
    percentile = f"p{settings.percentile}"
    return Timeline(
        title=title,
        rate=line(lambda record: record.observation.of(ensemble).requests),
        latency={
            f"{percentile}, last minute": line(lambda record: getattr(record.observation.of(ensemble), f"{percentile}_ms")),
            "mean": line(lambda record: record.observation.of(ensemble).mean_ms),
        },
        counts={
            name: _counts(name, line) for name in dict.fromkeys(decision.target for record in records for decision in record.decisions)
        },
        bound_ms=settings.bound_ms,
        failed=Line(at_s, failures.values * np.diff(at_s, prepend=at_s[0])),
        changes=changes(records, start_s),
    )


def changes(records: Sequence[Tick], start_s: float) -> list[Change]:
    """Every action in the order in which they were begun, each with what became of it."""
    ended = {_key(outcome.action): outcome for record in records for outcome in record.outcomes}
    return [
        Change(
            action.at_s - start_s,
            action.target,
            record.observation.count(action.target).present,
            None if action.kind == "route" else action.count,
            action.reason,
            _ended(action, ended.get(_key(action))),
        )
        for record in records
        for action in record.actions
    ]


def _key(action: Action) -> tuple[str, str, float]:
    """One at a time is under way for a target."""
    return action.kind, action.target, action.at_s


def _ended(action: Action, outcome: Outcome | None) -> str:
    what = {"scale": "", "heal": "healed, ", "route": ""}[action.kind]
    if outcome is None:
        return f"{what}under way"
    return f"{what}{outcome.seconds:.1f} s" if outcome.error is None else f"failed: {outcome.error}"


def _counts(target: str, line: Callable[[Callable[[Tick], float | None]], Line]) -> dict[str, Line]:
    return {
        "wanted": line(lambda record: next((decision.wanted for decision in record.decisions if decision.target == target), None)),
        "requested": line(lambda record: record.progress[target].requested if target in record.progress else None),
        "asked": line(lambda record: record.observation.count(target).asked),
        "serving": line(lambda record: record.observation.count(target).serving),
    }
