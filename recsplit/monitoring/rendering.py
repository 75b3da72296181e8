"""From a plan to the texts that Prometheus and Grafana read. Pure: templates and values in, texts out, by file name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsplit import rendered_folder, templating
from recsplit.monitoring import names
from recsplit.monitoring.alerts import alerts
from recsplit.monitoring.dashboard import dashboard
from recsplit.monitoring.rules import recording_rules
from recsplit.monitoring.watching import Scraped, Watching
from recsplit.plan import Plan

_TEMPLATES = Path(__file__).parent.parent / "templates"
CONFIG, RULES, ALERTS, DASHBOARD, TARGETS = "prometheus.yml", "rules.yml", "alerts.yml", "dashboard.json", "targets.json"
FOLDER = rendered_folder.Kind(".recsplit-monitoring.json", TARGETS, "put rules and panels of your own into files of your own")


def render(plan: Plan, watching: Watching) -> dict[str, str]:
    """The texts by file name; prometheus.yml names the others by theirs, relative to itself."""
    environment = templating.environment([_TEMPLATES], {"json": json.dumps, "quoted": _quoted})
    context: Mapping[str, Any] = {
        "plan": plan,
        "watching": watching,
        "names": names,
        "rules": recording_rules(plan, watching),
        "alerts": alerts(plan, watching),
    }
    texts = {name: str(environment.get_template(f"prometheus/{name}.j2").render(context)) for name in (CONFIG, RULES, ALERTS)}
    return texts | {DASHBOARD: json.dumps(dashboard(plan, watching), indent=1) + "\n", TARGETS: targets(watching.servers)}


def targets(servers: Sequence[Scraped]) -> str:
    """The servers as Prometheus' file-based discovery reads them; `part` tells the servers of a fleet apart."""
    groups = [{"targets": [server.address], "labels": {} if server.part is None else {"part": server.part}} for server in servers]
    return json.dumps(groups, indent=1) + "\n"


def _quoted(text: str) -> str:
    """YAML in single quotes: PromQL has many double ones."""
    return "'" + text.replace("'", "''") + "'"
