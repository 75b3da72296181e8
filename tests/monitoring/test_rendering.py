"""The files that Prometheus and Grafana read: valid for odd names too, and the command that writes them."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from recsplit.errors import InputError
from recsplit.monitoring.dashboard import dashboard
from recsplit.monitoring.rendering import render
from recsplit.monitoring.rules import recording_rules
from recsplit.monitoring.watching import Scraped, Watching
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from tests.conftest import Run
from tests.monitoring.promtool import needs_promtool, promtool, write
from tests.remote import sharded


@pytest.fixture(scope="module")
def plan(repository: Path) -> Plan:
    return find(repository / "model_repository").plan


@needs_promtool
@pytest.mark.parametrize("name", ["tiny", "Tiny-2.5_b", "a" * 60])
def test_promtool_finds_nothing_wrong(tmp_path: Path, plan: Plan, name: str) -> None:
    odd = dataclasses.replace(plan, name=name, dense=dataclasses.replace(plan.dense, name=f"{name}_dense"))
    watching = Watching(
        (Scraped("127.0.0.1:8002"), Scraped("shard-0.shop:8002", "0")),
        ("127.0.0.1:9100",),
        bound_ms=12.5,
        jobs=("ns/shop.front", "ns/shop-1"),
    )
    write(tmp_path, odd, watching)
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr


@needs_promtool
def test_every_panel_asks_a_valid_question(tmp_path: Path) -> None:
    grafana_dashboard = dashboard(sharded.write(tmp_path / "shop"), Watching(bound_ms=50))
    lines = [target["expr"] for panel in grafana_dashboard["panels"] for target in panel.get("targets", ())]
    assert len(lines) > 20
    rules = [{"record": f"panel_{number}", "expr": line} for number, line in enumerate(lines)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", tmp_path / "panels.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_ask_only_for_what_is_recorded(plan: Plan) -> None:
    recorded = {rule.record for rule in recording_rules(plan, Watching())}
    for panel in dashboard(plan, Watching())["panels"]:
        for target in panel.get("targets", ()):
            asked = {word for word in target["expr"].replace("(", " ").replace("{", " ").split() if word.startswith("recsplit:")}
            assert asked <= recorded


def test_panels_lie_side_by_side(plan: Plan) -> None:
    occupied_cells: set[tuple[int, int]] = set()
    for panel in dashboard(plan, Watching())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & occupied_cells
        occupied_cells |= cells


def test_the_text_is_the_same_every_time(plan: Plan) -> None:
    assert render(plan, Watching()) == render(plan, Watching())


def test_the_operator_s_object_has_the_same_groups(plan: Plan) -> None:
    texts = render(dataclasses.replace(plan, name="Tiny_2.5"), Watching())
    rule_object = yaml.safe_load(texts["prometheusrule.yaml"])
    assert rule_object["spec"]["groups"] == [*yaml.safe_load(texts["rules.yml"])["groups"], *yaml.safe_load(texts["alerts.yml"])["groups"]]
    assert rule_object["metadata"]["name"] == "recsplit-tiny-2-5"


@pytest.mark.parametrize("address", ["http://127.0.0.1:8002", "127.0.0.1", 'a"b:1', "[::1]:8002x", "a b:1", ""])
def test_an_address_that_can_not_be_scraped_is_refused(address: str) -> None:
    with pytest.raises(InputError):
        Watching((Scraped(address),))


def test_a_window_that_holds_no_two_scrapes_is_refused() -> None:
    with pytest.raises(InputError, match="no rates"):
        Watching(interval_s=10, window_s=15)


def test_the_command_writes_a_folder_and_keeps_what_others_wrote(repository: Path, tmp_path: Path, run_here: Run) -> None:
    source, target = repository / "model_repository", tmp_path / "watch"
    render_run = run_here(
        "render", "prometheus", source, "-o", target, "--target", "front=127.0.0.1:8002", "--p95-bound-ms", "50", "--json"
    )
    assert render_run.returncode == 0, render_run.stderr
    assert json.loads(render_run.stdout)["files"] == [
        "alerts.yml",
        "dashboard.json",
        "prometheus.yml",
        "prometheusrule.yaml",
        "rules.yml",
        "targets.json",
    ]
    (target / "targets.json").write_text("[]")
    assert run_here("render", "prometheus", source, "-o", target).returncode == 0
    assert (target / "targets.json").read_text() == "[]"
    (target / "rules.yml").write_text("mine")
    refused = run_here("render", "prometheus", source, "-o", target)
    assert refused.returncode == 2 and "was edited since" in refused.stderr
    assert run_here("render", "prometheus", source, "-o", tmp_path / "b", "--target", "nonsense").returncode == 2
