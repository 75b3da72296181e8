"""The recording rules of one build: what is recorded, in PromQL, and why.

Names are Triton's (core/src/metrics.cc, 2.51). What published queries miss:

* A Prometheus holds the series of a server that went away for as long as a rate's window; servers whose last page is missing are left out.
* Durations are summed over requests: a batch's compute time counts once for each of its requests, and a plain rate is no utilization.
* An ensemble's own queue and pending requests are always near 0, and its compute time is its steps'; its request duration is the query's.
* A front's stand-in for a shard (backend `remote`) has the shard's name: its requests are those that are offered, not those served.
* An ensemble's failures are counted twice, a step's that its queue was too full for not at all; both seen on 2.51.
* Summaries are NaN after a minute without queries, and can't be added over servers: NaN is dropped, and the slowest server counts.
* Two namespaces in one Prometheus, or two builds while one takes over from the other, have series of the same names: their labels go
  through every sum, and a build's rules read its own series only.
* What isn't known gives no series. Nothing here turns absence into 0; a rate of 0 comes from a counter that stood still.
"""

from dataclasses import dataclass

from recsplit.monitoring.names import BUILD, DATA_S, ENSEMBLE, PLACE, SLOW, UNATTRIBUTED, UP, WINDOW_S, recorded
from recsplit.monitoring.watching import Watching
from recsplit.plan.plan import Plan

#: Per server and model, before they are summed. Not among the series that a controller asks for.
_SERVER = "recsplit_server:"
_PLACE = ", ".join(PLACE)
_BY_SERVER, _BY_MODEL = f"by ({_PLACE}, instance, model)", f"by ({_PLACE}, model)"
_ON = f"on ({_PLACE}, instance, model)"
_QUANTILES = {"p50_ms": "0.5", "p95_ms": "0.95", "p99_ms": "0.99"}


@dataclass(frozen=True)
class RecordingRule:
    """One recorded series; `why` is a comment for people."""

    record: str
    expr: str
    why: str


def models(plan: Plan) -> tuple[str, ...]:
    """Every model whose series are recorded, the ensemble first."""
    return (plan.name, *(part.name for part in plan.loaded))


def recording_rules(plan: Plan, watching: Watching) -> tuple[RecordingRule, ...]:
    """The rules in the order in which they are evaluated: those of each server, and sums over them."""
    return (*_by_server(plan, watching), *_sums(plan, watching), *_slow(plan, watching))


def _by_server(plan: Plan, watching: Watching) -> tuple[RecordingRule, ...]:
    names = "|".join(name.replace(".", "[.]") for name in models(plan))
    select = f'{watching.match},model=~"{names}"'
    alive = f"and on ({_PLACE}, job, instance) up{{{watching.match}}} == 1"
    requests, executions, compute_us = (_server(plan, what) for what in ("requests", "executions", "compute_us"))
    counters = {
        "requests": "nv_inference_request_success",
        "failures": "nv_inference_request_failure",
        "rows": "nv_inference_count",
        "executions": "nv_inference_exec_count",
        "request_us": "nv_inference_request_duration_us",
        "queue_us": "nv_inference_queue_duration_us",
    }

    def rate(counter: str) -> str:
        return f"sum {_BY_SERVER} (rate({counter}{{{select}}}[{watching.window_s}s]) {alive})"

    compute = " + ".join(rate(f"nv_inference_compute_{part}_duration_us") for part in ("input", "infer", "output"))
    instances = f"{compute_us} / 1e6 * {executions} / ({requests} > 0) or 0 * ({requests} == 0)"
    seen = f"min {_BY_SERVER} (timestamp(nv_inference_request_success{{{select}}}))"
    return (
        *(RecordingRule(_SERVER + what, rate(counter), "") for what, counter in counters.items()),
        RecordingRule(_SERVER + "compute_us", compute, "As Triton counts it: once for each request of a batch."),
        RecordingRule(
            _SERVER + "busy",
            f"{rate('recsplit_worker_busy_us')} / 1e6 or {_ON} ({instances})",
            "Workers of the engine, or instances: compute time, divided by the requests of a batch; 0 where none came.",
        ),
        RecordingRule(
            _SERVER + "remote",
            f"count {_BY_SERVER} (recsplit_remote_rows{{{select}}})",
            "Only stand-ins for other servers' models have this series.",
        ),
        RecordingRule(_SERVER + "engine", f"count {_BY_SERVER} (recsplit_workers{{{select}}})", "Models of recsplit's engine."),
        RecordingRule(
            _SERVER + "offered",
            rate("recsplit_remote_requests"),
            "For a shard elsewhere, where the front is one model of the engine; else the stand-in is a model of Triton's.",
        ),
        RecordingRule(_SERVER + "pending", f"sum {_BY_SERVER} (nv_inference_pending_request_count{{{select}}})", ""),
        RecordingRule(_SERVER + DATA_S, seen, "When the page was read, in Unix seconds."),
        *(
            RecordingRule(
                _SERVER + what,
                f'max {_BY_SERVER} (nv_inference_request_summary_us{{{select},quantile="{quantile}"}} >= 0) / 1000',
                "NaN compares with nothing, and is dropped.",
            )
            for what, quantile in _QUANTILES.items()
        ),
    )


def _sums(plan: Plan, watching: Watching) -> tuple[RecordingRule, ...]:
    steps = f'model!="{plan.name}"'
    remote = f"{_ON} {_server(plan, 'remote')}"
    of_steps = f"on ({_PLACE}) group_left () 2 * sum by ({_PLACE})"
    failures = f"{recorded('failures')}{{{_of(plan)},"

    def sum_by_model(what: str) -> str:
        """Summed over the servers that have the model, not over those whose `remote` model only forwards to it."""
        return f"sum {_BY_MODEL} ({_server(plan, what)} unless {remote})"

    def sum_of_queues(what: str) -> str:
        """The same, but for an ensemble: it has no queue, and its compute time is its steps'. One model of the engine has its own."""
        if not plan.loaded:
            return sum_by_model(what)
        is_one = f"and {_ON} {_server(plan, 'engine')}"
        whole = _server(plan, what, 'model="' + plan.name + '"')
        return f"sum {_BY_MODEL} (({_server(plan, what, steps)} or {whole} {is_one}) unless {remote})"

    return (
        *(RecordingRule(recorded(what), sum_by_model(what), "") for what in ("requests", "rows", "executions", "failures")),
        RecordingRule(recorded("busy"), sum_of_queues("busy"), "Not the ensemble's, whose compute time is its steps'."),
        RecordingRule(recorded("waiting"), f"{sum_of_queues('queue_us')} / 1e6", "Requests that wait, in the mean (Little)."),
        RecordingRule(recorded("pending"), sum_of_queues("pending"), "Requests that wait now."),
        RecordingRule(
            recorded("offered"),
            f"sum {_BY_MODEL} (({_server(plan, 'requests')} + {_ON} {_server(plan, 'failures')}) and {remote}"
            f" or {_server(plan, 'offered')})",
            "Sent to a shard by the fronts, answered or not.",
        ),
        RecordingRule(
            recorded("mean_ms"),
            f"{sum_by_model('request_us')} / ({sum_by_model('requests')} > 0) / 1000",
            "Of a request, its queue included.",
        ),
        *(
            RecordingRule(recorded(what), f"max {_BY_MODEL} ({_server(plan, what)} unless {remote})", "The slowest server's.")
            for what in _QUANTILES
        ),
        RecordingRule(
            recorded(UNATTRIBUTED),
            f'clamp_min({failures}model="{plan.name}"}} - {of_steps} ({failures}{steps}}}), 0) / 2',
            "Failed queries that no step counts: a full queue, a refused id. The ensemble counts each twice.",
        ),
        RecordingRule(recorded(DATA_S), f"min {_BY_MODEL} ({_server(plan, DATA_S)})", "When the oldest page that counts was read."),
        RecordingRule(
            recorded(WINDOW_S), f"group by ({_PLACE}) (up{{{watching.match}}}) * {watching.window_s}", "What rates are means over."
        ),
        RecordingRule(
            recorded(UP), f"max by ({_PLACE}, instance, part) (up{{{watching.match}}})", "Whether a server's page was to be had."
        ),
    )


def _slow(plan: Plan, watching: Watching) -> tuple[RecordingRule, ...]:
    """Whether the bound is kept, for alerts that look back for hours."""
    if watching.bound_ms is None:
        return ()
    expr = f'{recorded("p95_ms")}{{{_of(plan)},model="{plan.name}"}} > bool {watching.bound_ms:g}'
    return (RecordingRule(recorded(SLOW), expr, f"1 while the p95 is over {watching.bound_ms:g} ms, 0 while it isn't."),)


def _server(plan: Plan, what: str, matcher: str = "") -> str:
    """One of the series by server, this build's."""
    return f"{_SERVER}{what}{{{_of(plan)}{',' if matcher else ''}{matcher}}}"


def _of(plan: Plan) -> str:
    """The matcher of this build's own series."""
    return f'{ENSEMBLE}="{plan.name}",{BUILD}="{plan.build}"'
