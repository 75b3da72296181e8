"""A dashboard for Grafana: queries, latencies, each model's work and queue, counts wanted and observed, and the controller's health.

Its JSON is made from values, not from a template: a comma too many is no bug that can be made here. Panels name no data source of ours;
the variable `source` lets the reader choose one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recsplit.monitoring.names import BUILD, ENSEMBLE, PLACE, UNATTRIBUTED, UP, recorded
from recsplit.monitoring.watching import Watching
from recsplit.plan.plan import Plan

_SCHEMA_VERSION = 39  # Grafana 10 and later
_COLUMNS, _HEIGHT = 24, 8
#: Labels by which the reader chooses, all of them unless he does: where nobody set one, its only value is the empty one.
CHOSEN = (*PLACE, BUILD)
_SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    """A graph over time: (PromQL, legend) for each set of lines; `unit` is Grafana's; `bound`: a red line."""

    title: str
    lines: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 12
    bound: float | None = None
    about: str = ""


def panels(plan: Plan, watching: Watching) -> tuple[tuple[str, tuple[Panel, ...]], ...]:
    """The panels in rows of one title each."""
    matcher = ",".join([f'{ENSEMBLE}="{plan.name}"', *(f'{label}=~"${label}"' for label in CHOSEN)])
    whole = f'{matcher},model="{plan.name}"'

    def of(what: str, select: str = matcher) -> str:
        return f"{recorded(what)}{{{select}}}"

    def controller(what: str) -> str:
        return f"recsplit_controller_{what}"

    both = f"and on ({', '.join((*CHOSEN, 'model'))})"
    queries = (
        Panel("Queries", ((of("requests", whole), "answered"), (f"{of('failures', whole)} / 2", "failed")), "reqps", 8),
        Panel(
            "Latency, by Triton's sliding minute",
            tuple((of(f"p{percent}_ms", whole), f"p{percent}") for percent in (50, 95, 99)),
            "ms",
            8,
            watching.bound_ms,
            "Of the slowest server. It rises within seconds, and falls after a minute; the mean below is fresh.",
        ),
        Panel("Mean latency", ((of("mean_ms"), "{{model}}"),), "ms", 8),
    )
    models = (
        Panel("Busy instances", ((of("busy"), "{{model}}"),), about="Compute time, divided by the requests of a batch."),
        Panel("Waiting requests, in the mean", ((of("waiting"), "{{model}}"),)),
        Panel("Pending requests now", ((of("pending"), "{{model}}"),)),
        Panel("Rows an execution", ((f"{of('rows')} / ({of('executions')} > 0)", "{{model}}"),)),
        Panel(
            "Failures",
            ((of("failures", f'{matcher},model!="{plan.name}"'), "{{model}}"), (of(UNATTRIBUTED), "of no model: queue full, ids refused")),
            "reqps",
        ),
        Panel(
            "Offered to shards, and answered",
            (
                (of("offered"), "{{model}} offered"),
                (f"{of('requests')} {both} {of('offered')}", "{{model}}"),
            ),
            "reqps",
        ),
    )
    counts = (
        Panel(
            "Units: observed, wanted, wished",
            tuple((controller(f"{what}_units"), f"{{{{target}}}} {what}") for what in ("observed", "wanted", "wish")),
            width=16,
        ),
        Panel("Change under way for", ((controller("action_age_seconds"), "{{target}}"),), "s", 8),
    )
    health = (
        Panel("Servers that answer", ((f"sum({of(UP)})", "answer"), (f"count({of(UP)})", "known")), width=6),
        Panel("Age of the data", ((f"time() - {of('data_s')}", "{{model}}"),), "s", 6),
        Panel("A tick takes", ((f"histogram_quantile(0.95, sum by (le) (rate({controller('tick_seconds_bucket')}[5m])))", "p95"),), "s", 6),
        Panel("Failures of the controller", ((f"sum by (reason) (rate({controller('failures_total')}[5m]))", "{{reason}}"),), width=6),
    )
    return (("Queries", queries), ("Models", models), ("Counts", counts), ("Health", health))


def dashboard(plan: Plan, watching: Watching) -> dict[str, Any]:
    """The dashboard as Grafana's JSON model. Its uid is the ensemble's name, so that an import replaces the one before."""
    placed: list[dict[str, Any]] = []
    y = 0
    for title, row in panels(plan, watching):
        placed.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, y, _COLUMNS, 1)})
        y = _add(placed, row, y + 1)
    for number, panel in enumerate(placed, 1):
        panel["id"] = number
    return {
        "uid": f"recsplit-{plan.name}"[:40],
        "title": f"recsplit: {plan.name}",
        "tags": ["recsplit", "triton"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                *(_choice(plan, label) for label in CHOSEN),
            ]
        },
        "panels": placed,
    }


def _choice(plan: Plan, label: str) -> dict[str, Any]:
    """A variable: the values that the label has among this ensemble's series."""
    query = f'label_values({recorded("requests")}{{{ENSEMBLE}="{plan.name}"}}, {label})'
    chosen = {"includeAll": True, "allValue": ".*", "multi": True, "current": {"text": "All", "value": "$__all"}}
    return {"name": label, "type": "query", "datasource": _SOURCE, "query": query, "refresh": 2, **chosen}


def _add(placed: list[dict[str, Any]], row: Sequence[Panel], y: int) -> int:
    """Put panels side by side from line `y` on; gives the line below them."""
    x = 0
    for panel in row:
        if x + panel.width > _COLUMNS:
            x, y = 0, y + _HEIGHT
        placed.append(_panel(panel, x, y))
        x += panel.width
    return y + _HEIGHT


def _panel(panel: Panel, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "transparent", "value": None}]
    if panel.bound is not None:
        steps.append({"color": "red", "value": panel.bound})
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": _place(x, y, panel.width, _HEIGHT),
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
            for number, (expr, legend) in enumerate(panel.lines)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                # A gap is a gap: what isn't known is not drawn as a line.
                "custom": {"spanNulls": False, "thresholdsStyle": {"mode": "off" if panel.bound is None else "line"}},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}
