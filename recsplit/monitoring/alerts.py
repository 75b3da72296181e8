"""Alerts: what a person should hear of, told once, with what to do. Burn rates are those of Google's SRE workbook, chapter 5.

An alert is of severity "page" where queries suffer now, and "ticket" where they will, or where the controller no longer helps.
"""

from dataclasses import dataclass
from typing import Literal

from recsplit.monitoring.names import ENSEMBLE, PLACE, SLOW, UNATTRIBUTED, UP, recorded
from recsplit.monitoring.rules import models
from recsplit.monitoring.watching import Watching
from recsplit.plan.plan import Plan

#: Objectives of thirty days: so many queries are answered; in so much of the time the p95 is within the bound.
ANSWERED, IN_TIME = 0.999, 0.99
#: A budget that lasts a thirtieth of its month, or a fifth: window, short window, times the even rate, severity.
_BURNS: tuple[tuple[str, str, float, Literal["page", "ticket"]], ...] = (("1h", "5m", 14.4, "page"), ("6h", "30m", 6.0, "ticket"))
_CONTROLLER = "recsplit_controller_"
_PLACE = ", ".join(PLACE)


@dataclass(frozen=True)
class Alert:
    """One alert. `hold`: how long it must be true first ("" for at once); `action`: what to do; `why`: for readers of the file."""

    name: str
    expr: str
    hold: str
    severity: Literal["page", "ticket"]
    summary: str
    action: str
    why: str


def alerts(plan: Plan, watching: Watching) -> tuple[Alert, ...]:
    """All alerts of a build; those on latency only where a bound is given."""
    slow = tuple(_slow(plan, watching.bound_ms, *burn) for burn in _BURNS) if watching.bound_ms is not None else ()
    return (*(_failing(plan, watching, *burn) for burn in _BURNS), *slow, *_servers(plan, watching), *_controller())


def _failing(plan: Plan, watching: Watching, window: str, short: str, times: float, severity: Literal["page", "ticket"]) -> Alert:
    select = f'{watching.match},model="{plan.name}"'

    def share(over: str) -> str:
        failed = f"sum by ({_PLACE}) (rate(nv_inference_request_failure{{{select}}}[{over}])) / 2"
        return f"{failed} / (sum by ({_PLACE}) (rate(nv_inference_request_success{{{select}}}[{over}])) + {failed})"

    most = f"{times * (1 - ANSWERED):.4g}"
    return Alert(
        f"RecsplitQueriesFail{severity.capitalize()}",
        f"{share(window)} > {most} and {share(short)} > {most}",
        "",
        severity,
        f"{plan.name}: {{{{ $value | humanizePercentage }}}} of the queries fail.",
        f"See which model fails ({recorded('failures')}); failures of no model are a full queue, or ids outside their tables.",
        f"{ANSWERED:.1%} are to be answered; the ensemble counts every failed query twice.",
    )


def _slow(plan: Plan, bound_ms: float, window: str, short: str, times: float, severity: Literal["page", "ticket"]) -> Alert:
    slow = f'{recorded(SLOW)}{{{ENSEMBLE}="{plan.name}"}}'
    most = f"{times * (1 - IN_TIME):.4g}"
    return Alert(
        f"RecsplitQueriesSlow{severity.capitalize()}",
        f"avg_over_time({slow}[{window}]) > {most} and avg_over_time({slow}[{short}]) > {most}",
        "",
        severity,
        f"{plan.name}: the p95 was over {bound_ms:g} ms for {{{{ $value | humanizePercentage }}}} of the last {window}.",
        f"See where queries wait ({recorded('waiting')}); give that model more instances, or let recsplit control do so.",
        f"In {IN_TIME:.0%} of the time the p95 is to be within {bound_ms:g} ms.",
    )


def _servers(plan: Plan, watching: Watching) -> tuple[Alert, ...]:
    matcher = f'{ENSEMBLE}="{plan.name}"'
    names = "|".join(name.replace(".", "[.]") for name in models(plan)[1:])
    backend = f'nv_inference_request_failure{{{watching.match},model=~"{names}",reason="BACKEND"}}'
    return (
        Alert(
            "RecsplitNoData",
            f'absent({recorded("requests")}{{{matcher},model="{plan.name}"}})',
            "1m",
            "page",
            f"Prometheus knows nothing of {plan.name}.",
            "See that Triton runs, its metrics port is scraped and the model is loaded. The controller holds all counts meanwhile.",
            "An absent series fires no other alert.",
        ),
        Alert(
            "RecsplitServerAway",
            f"{recorded(UP)}{{{matcher}}} == 0",
            "30s",
            "page",
            "{{ $labels.instance }} can't be scraped.",
            "See whether that Triton runs; a fleet starts one again that ended by itself.",
            "One of several servers.",
        ),
        Alert(
            "RecsplitDeadStub",
            f"sum by ({_PLACE}, instance, model) (rate({backend}[1m])) > 0",
            "30s",
            "page",
            "{{ $labels.model }} on {{ $labels.instance }}: a backend process fails its requests.",
            "Triton calls such a server ready. The controller replaces the instances; by hand, load the model with another host_policy.",
            "A stub that died: every request to it fails after a second, and nothing restarts it. Refused ids don't count here.",
        ),
        Alert(
            "RecsplitQueueStands",
            f"{recorded('pending')}{{{matcher}}} > 0 and on ({_PLACE}, build, model) {recorded('executions')}{{{matcher}}} == 0",
            "1m",
            "page",
            "{{ $labels.model }}: {{ $value }} requests wait, and none is executed.",
            "Its instances hang: see Triton's log, and replace them (load the model with another host_policy).",
            "Counters move only when requests end: a hung model looks idle but for its queue.",
        ),
        Alert(
            "RecsplitQueueFull",
            f"{recorded(UNATTRIBUTED)}{{{matcher}}} > 0",
            "5m",
            "ticket",
            f"{plan.name}: {{{{ $value | humanize }}}} queries a second fail that no model tells of.",
            "A full queue, or clients that send ids outside their tables: the answers' texts say which.",
            "A rejection for a full queue is counted at the ensemble only.",
        ),
        Alert(
            "RecsplitReplicaAvoided",
            f'min by ({_PLACE}, model, replica) (recsplit_remote_replica_up{{{watching.match},model=~"{names}"}}) == 0',
            "1m",
            "ticket",
            "{{ $labels.model }}: the fronts avoid {{ $labels.replica }}.",
            "See whether that shard's server runs, and whether the fronts reach it.",
            "Only a fleet has these.",
        ),
    )


def _controller() -> tuple[Alert, ...]:
    """Of recsplit control's own metrics (recsplit_controller.shell.metrics); without a controller they never fire."""
    return (
        Alert(
            "RecsplitControllerStalled",
            f"time() - {_CONTROLLER}last_tick_timestamp_seconds > 5 * {_CONTROLLER}interval_seconds",
            "1m",
            "page",
            "The controller at {{ $labels.instance }} has not ticked for {{ $value | humanizeDuration }}.",
            "Counts stay as they are. Restart it: it reads what runs, and goes on.",
            "Its process is there, and its loop isn't.",
        ),
        Alert(
            "RecsplitControllerAway",
            'up{job=~"(.+/)?recsplit-controller"} == 0',
            "1m",
            "ticket",
            "The controller at {{ $labels.instance }} can't be scraped.",
            "Counts stay as they are. See whether it runs.",
            "Serving goes on without it.",
        ),
        Alert(
            "RecsplitControllerBlind",
            f"{_CONTROLLER}stale == 1",
            "2m",
            "ticket",
            "The controller at {{ $labels.instance }} has no fresh data, and holds all counts.",
            "See its log: problems of the last observation are told there.",
            "Stale or missing data hold everything.",
        ),
        Alert(
            "RecsplitStuckLoad",
            f"{_CONTROLLER}action_age_seconds > 300",
            "",
            "ticket",
            "{{ $labels.target }}: a change has been under way for {{ $value | humanizeDuration }}.",
            "Under saturation Triton's load answers late though the capacity is there: if the queue doesn't fall, see Triton's log.",
            "Triton's load call ends when the backlog does.",
        ),
        Alert(
            "RecsplitCountsApart",
            f"({_CONTROLLER}wanted_units >= 0) != ({_CONTROLLER}asked_units >= 0)",
            "10m",
            "ticket",
            "{{ $labels.target }}: {{ $value }} units are wanted, and another number is asked for.",
            "See the controller's log for loads that Triton refused, and who else changes counts.",
            "NaN stands for what isn't known, and is unequal to everything: it is left out first.",
        ),
        Alert(
            "RecsplitUnitsLack",
            f"({_CONTROLLER}observed_units >= 0) < ({_CONTROLLER}asked_units >= 0)",
            "10m",
            "ticket",
            "{{ $labels.target }}: {{ $value }} units serve, fewer than were asked for.",
            "In Kubernetes see why pods don't become ready: kubectl describe; on a server, its log.",
            "A unit that starts is no alert; one that doesn't come is.",
        ),
        Alert(
            "RecsplitIll",
            f"{_CONTROLLER}ill == 1",
            "2m",
            "page",
            "{{ $labels.target }}: dead units were found, and are not replaced yet.",
            "See the controller's log; load the model with another host_policy by hand.",
            "Healing takes seconds.",
        ),
        Alert(
            "RecsplitAtItsMost",
            f"{_CONTROLLER}wish_units > {_CONTROLLER}maximum_units and {_CONTROLLER}observed_units >= {_CONTROLLER}maximum_units",
            "10m",
            "ticket",
            "{{ $labels.target }}: {{ $value | humanize }} units are wished for, more than it may have.",
            "Raise its maximum, or give it another machine.",
            "The load outgrew the bounds.",
        ),
    )
