"""The loop: see, decide, act, tell, and again. The only clock; everything that is decided takes its time from the observation."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.core.decide import decide
from recsplit_controller.core.memory import Memory
from recsplit_controller.core.reconcile import State, reconcile
from recsplit_controller.forecast.forecaster import Forecaster
from recsplit_controller.observe.protocol import Observer
from recsplit_controller.shell.journal import Journal
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import known
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Tick

Phase = Literal["observe", "decide", "act", "journal", "tick"]
_LOG = logging.getLogger(__name__)
#: The same trouble is logged in full once, and then once in so many ticks.
_REPEAT = 60


class Shows(Protocol):
    """What shows the ticks to people and machines: metrics, a terminal."""

    def show(self, record: Tick) -> None:
        """A tick that went through."""

    def fail(self, reason: Phase) -> None:
        """A part of a tick failed; the loop goes on."""


@dataclasses.dataclass
class Loop:
    """One controller's loop over `targets`. `shows` are told of every tick, in their order; `journal` None: no journal.

    A tick that fails leaves everything as it was: memory, what is wanted, and what runs. `may` is asked before each tick: while it says no,
    another controller acts, so nothing is done, and nothing of what was known before is held for true afterwards.
    """

    settings: Settings
    forecaster: Forecaster
    targets: Sequence[Target]
    observer: Observer
    actuator: Actuator
    journal: Journal | None
    shows: Sequence[Shows]
    clock: Callable[[], float] = time.time
    may: Callable[[], bool] = lambda: True
    memory: Memory = dataclasses.field(default_factory=Memory)
    state: State = dataclasses.field(default_factory=State)
    _ended: list[Outcome] = dataclasses.field(default_factory=list)
    _problems: tuple[str, ...] = ()
    _failures: dict[Phase, int] = dataclasses.field(default_factory=dict)

    def run(self, stop: threading.Event, *, ticks: int | None = None) -> None:
        """Tick every `interval_s` until `stop` is set, or `ticks` ticks are done. What is under way then is left to the server."""
        due_s = time.monotonic()
        while not stop.is_set() and (ticks is None or ticks > 0):
            if self.may():
                self.tick()
            else:
                self._forget()
            ticks = None if ticks is None else ticks - 1
            # A tick that took longer than an interval is followed by the next at once, and none is caught up on.
            due_s = max(due_s + self.settings.interval_s, time.monotonic())
            if ticks != 0:
                stop.wait(due_s - time.monotonic())

    def _forget(self) -> None:
        """Another controller acts: what was wished and asked for here says nothing about later. What came in does: a week of it is what the
        forecaster knows, and a lease that is lost for a moment takes none of it away."""
        self.memory, self.state = Memory(rates=self.memory.rates), State()
        if self.journal is not None:
            self.journal.part()

    def tick(self) -> Tick | None:
        """One round; None where it failed. No exception but KeyboardInterrupt and its like."""
        began_s = time.monotonic()
        part: Phase = "observe"
        try:
            at_s = self.clock()
            observation = known(dataclasses.replace(self.observer.observe(at_s), counts=dict(self.actuator.counts())))
            part = "decide"
            memory, decisions = decide(self.settings, self.forecaster, self.targets, self.memory, observation)
            part = "act"
            self._ended += self.actuator.outcomes()
            outcomes, ill = tuple(self._ended), dict(self.actuator.ill())
            state, actions = reconcile(self.state, self.targets, decisions, outcomes, ill, at_s)
            before = self.memory, self.state
            self.memory, self.state, self._ended = memory, state, []
            for action in actions:
                self._begin(action)
        except Exception:
            self._fail(part)
            return None
        record = Tick(observation, decisions, actions, outcomes, ill, self.state.progress, time.monotonic() - began_s)
        self._failures = {part: count for part, count in self._failures.items() if part in ("journal", "tick")}
        self._keep(record, *before)
        self._tell(record)
        for shows in self.shows:
            self._show(shows, record)
        return record

    def _show(self, shows: Shows, record: Tick) -> None:
        """What can't be shown was decided and done all the same. Raises BrokenPipeError, where nobody reads standard output any more."""
        try:
            shows.show(record)
        except BrokenPipeError:
            raise
        except Exception:
            self._fail("tick")

    def _tell(self, record: Tick) -> None:
        """Log what changed: actions and outcomes, and what can't be seen, once for as long as it stays so."""
        _log(record)
        for problem in record.observation.problems:
            if problem not in self._problems:
                _LOG.warning("not seen", extra={"fields": {"problem": problem}})
        self._problems = record.observation.problems

    def _begin(self, action: Action) -> None:
        """An action that can't even be begun has ended, with an error: it is tried again like any other."""
        try:
            self.actuator.begin(action)
        except Exception as error:
            _LOG.exception("an action could not be begun", extra={"fields": {"target": action.target, "kind": action.kind}})
            self._ended.append(Outcome(action, str(error) or type(error).__name__, 0.0))

    def _keep(self, record: Tick, memory: Memory, state: State) -> None:
        """Serving matters more than its journal: where that can't be written, the loop goes on."""
        if self.journal is None:
            return
        try:
            self.journal.write(record, memory, state)
            self._failures.pop("journal", None)
        except (OSError, ValueError):
            self._fail("journal")

    def _fail(self, part: Phase) -> None:
        count = self._failures[part] = self._failures.get(part, 0) + 1
        if count % _REPEAT == 1:
            _LOG.exception("a part of a tick failed, and the loop goes on", extra={"fields": {"part": part, "failures": count}})
        for shows in self.shows:
            shows.fail(part)


def _log(record: Tick) -> None:
    for action in record.actions:
        _LOG.info("begun", extra={"fields": _fields(action) | {"reason": action.reason}})
    for outcome in record.outcomes:
        fields = _fields(outcome.action) | {"seconds": outcome.seconds}
        if outcome.error is None:
            _LOG.info("done", extra={"fields": fields})
        else:
            _LOG.error("failed; the last good state stays", extra={"fields": fields | {"reason": outcome.error}})


def _fields(action: Action) -> dict[str, object]:
    return {"kind": action.kind, "target": action.target, "count": action.count}
