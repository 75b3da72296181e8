"""What `recsplit control` shows: changes while it runs, a table of one tick, and what a replay found."""

import time
from collections.abc import Mapping, Sequence

import click

from recsplit.commands.output import Cell, show_table
from recsplit_controller.shell.journal import Session, to_line
from recsplit_controller.shell.loop import Phase
from recsplit_controller.shell.replay import Replay
from recsplit_controller.values.decision import Decision
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Tick

#: After so long without a change it is said how everything stands.
QUIET_S = 60.0
_COLUMNS = ("target", "serving", "asked", "wish", "wanted", "why")


class Lines:
    """Every tick as the journal's line of JSON, on stdout."""

    def show(self, record: Tick) -> None:
        """The line, at once."""
        click.echo(to_line(record), nl=False)

    def fail(self, reason: Phase) -> None:
        """Failures go to the log."""


class Changes:
    """On stdout what is done and what became of it, and when a target's reason to hold changes; after a quiet minute, how all stand."""

    def __init__(self) -> None:
        self._held: Mapping[str, str] = {}
        self._said_s: float | None = None

    def show(self, record: Tick) -> None:
        """What this tick changed, in lines."""
        at_s = record.observation.at_s
        for line in self._lines(record) or self._standing(record):
            click.echo(f"{time.strftime('%H:%M:%S', time.localtime(at_s))}  {line}")
            self._said_s = at_s

    def _standing(self, record: Tick) -> list[str]:
        """How every target stands and why, if nothing was said for a while; the first time at once."""
        if self._said_s is not None and 0 <= record.observation.at_s - self._said_s < QUIET_S:
            return []
        return [f"{decision.target}: {_units(decision.count)}: {decision.reason}" for decision in record.decisions]

    def _lines(self, record: Tick) -> list[str]:
        lines = []
        for outcome in record.outcomes:
            action = outcome.action
            ended = f"done in {outcome.seconds:.1f} s" if outcome.error is None else f"failed: {outcome.error}"
            lines.append(f"{action.target}: {_words(action.kind, action.count)} {ended}")
        lines += [f"{action.target}: {_words(action.kind, action.count)}: {action.reason}" for action in record.actions]
        held = {decision.target: decision.reason for decision in record.decisions if decision.reason.startswith("held")}
        lines += [f"{target}: {reason}" for target, reason in held.items() if target not in self._held]
        lines += [f"{target}: seen again" for target in self._held if target not in held]
        self._held = held
        return lines

    def fail(self, reason: Phase) -> None:
        """Failures go to the log."""


class Last:
    """Keeps the last tick, for `--once`."""

    def __init__(self) -> None:
        self.record: Tick | None = None

    def show(self, record: Tick) -> None:
        """Keep it."""
        self.record = record

    def fail(self, reason: Phase) -> None:
        """Failures go to the log."""


def _units(count: Count) -> str:
    if count.serving is None:
        return "not known"
    return f"{count.serving} of {count.asked} serve" if count.serving != count.asked else f"{count.serving} serve"


def _words(kind: str, count: int) -> str:
    return {"scale": f"{count} units", "heal": "replacement of its units", "route": "other weights of its router"}[kind]


def show_begin(targets: Sequence[Target], settings: Settings, where: Mapping[str, str]) -> None:
    """What is controlled, by what, and where it can be watched; on stdout."""
    columns = ("target", "role", "from", "to", "cores each")
    rows: list[list[Cell]] = [[target.name, target.role, target.minimum, target.maximum, target.cores] for target in targets]
    bound = "" if settings.bound_ms is None else f", p{settings.percentile} within {settings.bound_ms:g} ms"
    sharing = [target for target in targets if target.in_server]
    budget = "" if settings.cores is None or not sharing else f", sharing {settings.cores:.3g} cores"
    show_table(columns, rows, title=f"{settings.policy} every {settings.interval_s:g} s{bound}{budget}")
    least = sum(target.minimum * target.cores for target in sharing)
    if settings.cores is not None and sharing and least + min(target.cores for target in sharing) > settings.cores:
        click.echo(
            f"No room for more: the fewest of all take {least:.3g} of {settings.cores:.3g} cores. Build with fewer --threads, or set cores."
        )
    for name, address in where.items():
        click.echo(f"{name}: {address}")


def show_tick(record: Tick) -> None:
    """One tick as a table, and what could not be seen; on stdout."""
    show_table(_COLUMNS, [_row(decision) for decision in record.decisions])
    for problem in record.observation.problems:
        click.echo(f"not seen: {problem}")


def _row(decision: Decision) -> list[Cell]:
    return [decision.target, decision.count.serving, decision.count.asked, decision.wish, decision.wanted, decision.reason]


def show_replay(session: Session, replay: Replay, *, other: bool) -> None:
    """What a replay found, in a table of at most 20 differences and a sentence; on stdout."""
    begin = session.records[0].observation.at_s
    rows: list[list[Cell]] = [
        [f"{each.at_s - begin:.0f} s", each.target, each.observed, each.then, each.now, each.now_reason] for each in replay.differences[:20]
    ]
    if rows:
        show_table(("at", "target", "ran", "wanted then", "wanted now", "why now"), rows)
    if len(replay.differences) > len(rows):
        click.echo(f"({len(replay.differences) - len(rows)} more)")
    total = f"{replay.decisions} decisions of {replay.ticks} ticks"
    if not replay.differences and (other or not replay.actions):
        click.echo(f"{total}: all as they were")
    else:
        click.echo(f"{total}: {len(replay.differences)} are others; {replay.actions} ticks have other actions")
