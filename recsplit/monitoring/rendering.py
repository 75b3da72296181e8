"""From a plan to the texts that Prometheus and Grafana read. Pure: templates and values in, texts out, by file name."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recsplit.monitoring import names
from recsplit.monitoring.alerts import alerts
from recsplit.monitoring.dashboard import dashboard
from recsplit.monitoring.rules import recording_rules
from recsplit.monitoring.watching import Scraped, Watching
from recsplit.plan.plan import Plan
from recsplit.rendering import rendered_folder, templating

_TEMPLATES = Path(__file__).parent.parent / "templates"
CONFIG, RULES, ALERTS, DASHBOARD, TARGETS = "prometheus.yml", "rules.yml", "alerts.yml", "dashboard.json", "targets.json"
#: The rules and alerts once more, as prometheus-operator takes them.
OPERATOR = "prometheusrule.yaml"
FOLDER = rendered_folder.FolderKind(".recsplit-monitoring.json", TARGETS, "put rules and panels of your own into files of your own")


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
    texts[OPERATOR] = _object(plan, texts[RULES], texts[ALERTS])
    return texts | {DASHBOARD: json.dumps(dashboard(plan, watching), indent=1) + "\n", TARGETS: targets(watching.servers)}


def targets(servers: Sequence[Scraped]) -> str:
    """The servers as Prometheus' file-based discovery reads them; `part` tells the servers of a fleet apart."""
    groups = [{"targets": [server.address], "labels": {} if server.part is None else {"part": server.part}} for server in servers]
    return json.dumps(groups, indent=1) + "\n"


def _object(plan: Plan, *texts: str) -> str:
    """A PrometheusRule with the groups of these files. Its name is the ensemble's, as Kubernetes writes names."""
    groups = [group for text in texts for group in yaml.safe_load(text)["groups"]]
    name = re.sub("[^a-z0-9]+", "-", f"recsplit-{plan.name}".lower()).strip("-")
    manifest = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": name}, "spec": {"groups": groups}}
    text = str(yaml.safe_dump(manifest, sort_keys=False, width=10_000))
    return f"# Prometheus' ruleSelector may ask for labels: kustomize adds them.\n{text}"


def _quoted(text: str) -> str:
    """YAML in single quotes: PromQL has many double ones."""
    return "'" + text.replace("'", "''") + "'"
