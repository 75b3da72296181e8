"""What alerts and dashboards ask of the controller's metrics is there, by names that Prometheus' own linter takes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recsplit.monitoring.rendering import render
from recsplit.monitoring.watching import Scraped, Watching
from recsplit.repository.find import find
from recsplit_controller.shell.metrics import Meters
from recsplit_controller.values.settings import Settings, Target

ROOT = Path(__file__).parents[2]


def page() -> str:
    return generate_latest(Meters(Settings(), [Target("shop_dense", "shop_dense", "dense")]).registry).decode()


def test_every_metric_that_is_asked_for_is_there() -> None:
    plan = find(ROOT / "model_repository").plan
    texts = render(plan, Watching((Scraped("127.0.0.1:8002"),), ("127.0.0.1:9100",), bound_ms=25))
    asked = {name for text in texts.values() for name in re.findall(r"recsplit_controller_\w+", text)}
    assert len(asked) > 8
    assert asked <= {sample.name for family in text_string_to_metric_families(page()) for sample in family.samples}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_lint() -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=page(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
