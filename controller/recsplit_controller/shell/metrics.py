"""The controller's own metrics, for Prometheus: what it sees, wants, asks for and fails at. Alerts and dashboards use these names.

What isn't known is NaN, never zero. The registry is this object's own, so that several may live in one process.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from recsplit_controller.values.decision import Decision, Kind
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Progress, Tick

#: What a part of the loop is called where it fails: `observe` (a sentence of Observation.problems counts as one), `decide`, `act`
#: (an action's outcome was an error), `journal`, `lease` (lost, or not to be had), `tick` (anything else).
Reason = Literal["observe", "decide", "act", "journal", "lease", "tick"]
REASONS: tuple[Reason, ...] = ("observe", "decide", "act", "journal", "lease", "tick")

_PREFIX = "recsplit_controller"
_TICK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ACTION_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Meters:
    """Metrics of one controller, in `registry`. All methods may be called from any thread.

    `clock` gives Unix seconds. `last_tick_s`: when a tick last ended, well or not; `fresh`: whether the last observation's data were
    no older than settings.stale_s; `leads`: whether the lease is held, `leads_since_s` since when.
    """

    def __init__(self, settings: Settings, targets: Sequence[Target], *, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self.last_tick_s: float | None = None
        self.fresh = False
        self.leads = False
        self.leads_since_s = 0.0
        self._settings, self._targets, self._clock = settings, tuple(targets), clock

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

        by_target = ("target", "model", "unit")
        self._wish = gauge("wish_units", "Units the policy would have, not rounded; NaN where it has no opinion.", *by_target)
        self._wanted = gauge("wanted_units", "Units decided, within bounds, steps and delays; NaN where nothing is.", *by_target)
        self._requested = gauge("requested_units", "Units last asked of the servers; where that failed, those that run.", *by_target)
        self._observed = gauge("observed_units", "Units that serve; NaN where that can't be told.", *by_target)
        self._asked = gauge("asked_units", "Units asked for, by whoever; of an autoscaler, the least it may have.", *by_target)
        self._least = gauge("minimum_units", "The least units that a target may have.", *by_target)
        self._most = gauge("maximum_units", "The most units that a target may have.", *by_target)
        self._saturated = gauge("saturated", "1 while a target is so busy that nothing may be taken away from it.", *by_target)
        self._ill = gauge("ill", "1 while units are dead though they are counted; 0 once they were replaced.", *by_target)
        self._age = gauge("action_age_seconds", "How long the action under way has taken so far; 0: none is under way.", *by_target)
        self._data_age = gauge("data_age_seconds", "Age of the oldest sample that counted in the last tick; NaN: no data at all.")
        self._stale = gauge("stale", "1 while data are missing or older than stale_s, so that everything holds; NaN without the lease.")
        self._problems = gauge("problems", "What was not to be had in the last observation: the number of sentences about it.")
        self._leader = gauge("leader", "1 while this controller holds the lease.")
        self._last = gauge("last_tick_timestamp_seconds", "When a tick last ended, or the lease was taken (Unix seconds); NaN without it.")
        self._interval = gauge("interval_seconds", "Seconds from one tick to the next, as set.")
        self._info = gauge("info", "1; its labels are settings.", "policy", "forecaster")
        self._ticks = Counter(f"{_PREFIX}_ticks", "Ticks, by result.", ("result",), registry=self.registry)
        self._failures = Counter(f"{_PREFIX}_failures", "Failures, by the part of the loop.", ("reason",), registry=self.registry)
        self._actions = Counter(
            f"{_PREFIX}_actions", "Actions, when they began and when they ended.", ("target", "kind", "outcome"), registry=self.registry
        )
        self._tick_seconds = Histogram(f"{_PREFIX}_tick_seconds", "How long a tick took.", buckets=_TICK_SECONDS, registry=self.registry)
        self._action_seconds = Histogram(
            f"{_PREFIX}_action_seconds", "How long an action took.", ("kind",), buckets=_ACTION_SECONDS, registry=self.registry
        )
        ProcessCollector(registry=self.registry)
        self._begin()

    def _begin(self) -> None:
        """Every series is there from the start, so that its first increase is seen as one."""
        self._info.labels(self._settings.policy, self._settings.forecaster).set(1)
        self._interval.set(self._settings.interval_s)
        for result in ("ok", "failed"):
            self._ticks.labels(result)
        for reason in REASONS:
            self._failures.labels(reason)
        for kind in get_args(Kind):
            self._action_seconds.labels(kind)
        for target in self._targets:
            labels = _labels(target)
            self._least.labels(*labels).set(target.minimum)
            self._most.labels(*labels).set(target.maximum)
            for kind in ("scale", "heal"):  # "route" is a group's
                for outcome in ("begun", "succeeded", "failed"):
                    self._actions.labels(target.name, kind, outcome)
        for group in {target.group for target in self._targets if target.group is not None}:
            for outcome in ("begun", "succeeded", "failed"):
                self._actions.labels(group, "route", outcome)
        self.lead(False)

    def _forget(self) -> None:
        """One that waits for the lease sees nothing and wants nothing, and isn't stalled by that: alerts hear of NaN and keep still."""
        for unknown in (self._data_age, self._stale, self._last):
            unknown.set(math.nan)
        for target in self._targets:
            labels = _labels(target)
            for unknown in (self._wish, self._wanted, self._requested, self._observed, self._asked):
                unknown.labels(*labels).set(math.nan)
            for zero in (self._saturated, self._ill, self._age):
                zero.labels(*labels).set(0)

    def show(self, record: Tick) -> None:
        """Show a tick that ended well."""
        seen = record.observation
        self._count_tick("ok")
        self._tick_seconds.observe(record.seconds)
        age_s = math.nan if seen.data_s is None else max(seen.at_s - seen.data_s, 0.0)
        self.fresh = age_s <= self._settings.stale_s
        self._data_age.set(age_s)
        self._stale.set(not self.fresh)
        self._problems.set(len(seen.problems))
        self._failures.labels("observe").inc(len(seen.problems))
        for outcome in record.outcomes:
            action, result = outcome.action, "succeeded" if outcome.error is None else "failed"
            self._actions.labels(action.target, action.kind, result).inc()
            self._action_seconds.labels(action.kind).observe(outcome.seconds)
            self._failures.labels("act").inc(outcome.error is not None)
        for action in record.actions:
            self._actions.labels(action.target, action.kind, "begun").inc()
        decisions = {decision.target: decision for decision in record.decisions}
        for target in self._targets:
            self._show_target(target, record, decisions.get(target.name), record.progress.get(target.name, Progress()))

    def _show_target(self, target: Target, record: Tick, decision: Decision | None, progress: Progress) -> None:
        labels, seen = _labels(target), record.observation
        count = seen.count(target.name)
        # Where a request failed, the last good state stays: what there is is all that is asked for.
        requested = progress.requested is not None and (progress.under_way or progress.error is None)
        self._observed.labels(*labels).set(_known(count.serving))
        self._asked.labels(*labels).set(_known(count.present))
        self._requested.labels(*labels).set(_known(progress.requested if requested else count.present))
        if decision is not None:
            self._wish.labels(*labels).set(_known(decision.wish))
            self._wanted.labels(*labels).set(_known(decision.wanted))
            self._saturated.labels(*labels).set(decision.saturated)
        self._ill.labels(*labels).set(target.name in record.ill)
        began_s = progress.asked_s if progress.under_way else None
        self._age.labels(*labels).set(0 if began_s is None else max(seen.at_s - began_s, 0.0))

    def fail(self, reason: Reason) -> None:
        """Count a tick that failed, and the part of the loop in which it did. The loop goes on, so this is a sign of life too."""
        self._count_tick("failed")
        self._failures.labels(reason).inc()

    def lead(self, holds: bool) -> None:
        """Show whether the lease is held; without it nothing is done."""
        if holds and not self.leads:
            self.leads_since_s = self._clock()
            self._last.set(self.leads_since_s)
            self._stale.set(1)
        elif not holds:
            self.fresh = False
            self._forget()
        self.leads = holds
        self._leader.set(holds)

    def lost_lease(self) -> None:
        """Count a lease that was held and isn't any more."""
        self._failures.labels("lease").inc()

    def _count_tick(self, result: Literal["ok", "failed"]) -> None:
        self._ticks.labels(result).inc()
        self.last_tick_s = self._clock()
        self._last.set(self.last_tick_s)


def _labels(target: Target) -> tuple[str, str, str]:
    return target.name, target.model, target.unit


def _known(value: float | None) -> float:
    return math.nan if value is None else value
