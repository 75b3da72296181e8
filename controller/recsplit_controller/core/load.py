"""What an observation says of a target's load: work a request, requests that come, requests that wait."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recsplit_controller.core.arrivals import delay_s
from recsplit_controller.core.flow import USUAL_QUEUE, Flow
from recsplit_controller.core.memory import Arrival
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target

#: Fewer requests a second are none: what a single one took can't be told from a rate.
LEAST_RATE = 1e-6
#: A backlog is to be gone in this time, or in the time that a new unit takes to serve where that is longer: until then a backlog grows
#: whatever is asked for, and units for it would be many, and there when most of it is gone.
DRAIN_S = 10.0


@dataclass(frozen=True)
class Context:
    """What a policy may know. `flows` by model: what is sent to it, and expected; `arrivals` by target: units on their way."""

    settings: Settings
    targets: Sequence[Target]
    observation: Observation
    flows: Mapping[str, Flow] = field(default_factory=dict)
    arrivals: Mapping[str, Arrival] = field(default_factory=dict)

    def flow(self, target: Target) -> Flow:
        """The flow to the target's model; where it isn't given, what ended."""
        series = self.observation.of(target.model)
        rate = max(series.offered or 0.0, series.requests or 0.0)
        return self.flows.get(target.model, Flow(rate, rate, queued=False))

    def count(self, target: Target) -> Count:
        """Its units. What they do is done by those that serve; what there is to be is what was asked for."""
        return self.observation.count(target.name)

    def delay_s(self, target: Target) -> float:
        """How long a unit that is asked for now takes until it serves."""
        return delay_s(self.arrivals.get(target.name, Arrival()), self.observation.at_s)

    def entering(self) -> float:
        """Queries that come in, a second. Each runs every step once, so the step that is given the most tells what all will be given
        as soon as the one before them keeps up."""
        return max((self.flow(target).now for target in self.targets), default=0.0)


@dataclass(frozen=True)
class Load:
    """A target's: requests a second that it must carry, seconds of a unit that one takes, and requests in a backlog. `draining`: units that
    work it off, beside those that are busy with what comes."""

    arrivals: float
    service_s: float
    backlog: float
    forecast: bool
    draining: float = 0.0

    @property
    def busy(self) -> float:
        """Units that would be busy in the mean, if nothing waited."""
        return self.arrivals * self.service_s


def load_of(context: Context, target: Target, entering: float) -> Load | None:
    """A target's load; None where it isn't known, or where requests wait and none ends."""
    series = context.observation.of(target.model)
    queue = series.waiting if series.pending is None else series.pending
    backlog = max(0.0, (queue or 0.0) - USUAL_QUEUE * (context.count(target).serving or 1) * target.instances)
    if series.busy is None or series.requests is None:
        return None
    if series.requests < LEAST_RATE:
        return Load(0.0, 0.0, 0.0, forecast=False) if not queue and entering <= 0 else None
    flow = context.flow(target)
    # Without a queue anywhere the step's own rate is taken: the largest of many noisy rates is too large.
    present = entering if backlog > 0 or any(each.queued for each in context.flows.values()) else flow.now
    expected = flow.steady * flow.expected if flow.expected > 1 else 0.0
    service_s, delay = series.busy / series.requests / target.instances, context.delay_s(target)
    # What a unit finds that is asked for now: what there will be of the backlog, with those that are asked for already.
    left_s = backlog * service_s + (present * service_s - (context.count(target).asked or 0)) * delay
    draining = max(0.0, left_s) / max(DRAIN_S, delay) if backlog else 0.0
    return Load(max(present, expected), service_s, backlog, expected > present, draining)


def wait_ms(series: Series) -> float:
    """The mean time in the queue: of the last requests, or of those that wait now (Little), the longer."""
    if not series.requests:
        return 0.0
    return 1000 * max(series.waiting or 0.0, series.pending or 0.0) / series.requests


def level_ms(context: Context) -> float | None:
    """The percentile that the bound is about, as of now; None where it isn't known.

    Triton's summaries are of a sliding minute, so that they stay high for long after a queue is gone. The mean and the queues are
    fresh: a percentile above what they allow is history.
    """
    settings, observation = context.settings, context.observation
    whole = observation.of(observation.ensemble)
    percentiles = {50: whole.p50_ms, 95: whole.p95_ms, 99: whole.p99_ms}
    measured = percentiles[settings.percentile]
    steps = [observation.of(model) for model in {target.model for target in context.targets}]
    if whole.requests == 0 and not any(step.pending for step in steps):
        return 0.0  # nobody waits for anything
    if measured is None or whole.mean_ms is None:
        return measured
    waits = sum(wait_ms(step) for step in steps)
    # A tail of waits is no longer than an exponential one: -ln(1 - share) times the mean (3.0 for the 95th percentile).
    tail = max(1.0, -math.log(1 - settings.percentile / 100))
    return min(measured, tail * whole.mean_ms, whole.mean_ms + tail * waits)
