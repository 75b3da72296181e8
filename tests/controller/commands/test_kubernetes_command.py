"""`recsplit control --kubernetes` as a process, against stand-ins for Kubernetes' API server and for a server's metrics page."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recsplit.errors import InputError
from recsplit_controller.targets.deployments import read_replicas
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import GroupBounds
from tests.controller.actuate.fake_cluster import FakeCluster, kubeconfig, running
from tests.waiting import until

SETTINGS = """\
ensemble = "shop"
policy = "elasticrec"
bound_ms = 25
interval_s = 1

[targets.shop-front]
model = "shop"
role = "front"
maximum = 6

[targets.shop-shard-1]
model = "shop_embedding_1"
role = "shard"
max_qps = 120
"""
LEASE = "coordination.k8s.io/v1/leases/recsplit-controller"
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with running() as cluster:
        cluster.deployment("shop-front", 2)
        cluster.deployment("shop-shard-1", 1)
        cluster.put(LEASE, {"kind": "Lease", "metadata": {"name": "recsplit-controller"}})
        yield cluster


@pytest.fixture
def start(fake: FakeCluster, tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "settings.toml").write_text(SETTINGS)
    environment = os.environ | {"KUBECONFIG": str(kubeconfig(fake, tmp_path / "config"))}
    begun: list[subprocess.Popen[str]] = []

    def started(*more: str) -> "subprocess.Popen[str]":
        # Nothing listens there: without data every count stays as it is.
        arguments = ["--settings", str(tmp_path / "settings.toml"), "--metrics-url", "http://127.0.0.1:9/metrics", *more]
        command = [sys.executable, "-m", "recsplit", "control", "--kubernetes", "--json", *arguments]
        begun.append(subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return begun[-1]

    yield started
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


COUNTS = {name: vars(Count.steady(units)) for name, units in {"shop-front": 2, "shop-shard-1": 1}.items()}


def holder(fake: FakeCluster) -> str:
    return str(fake.objects[LEASE].get("spec", {}).get("holderIdentity") or "")


def test_one_of_two_acts_and_the_other_follows_when_it_ends(start: Start, fake: FakeCluster) -> None:
    first = start()
    until(lambda: holder(fake) != "", "a holder")
    before = holder(fake)
    second = start()
    assert second.stderr is not None
    line = json.loads(second.stderr.readline())
    assert line["message"] == "waiting for the lease" and before in line["why"]
    first.send_signal(signal.SIGTERM)
    first_lines, _ = first.communicate(timeout=120)
    assert first.returncode == 0
    until(lambda: holder(fake) not in {"", before}, "another holder")
    second.send_signal(signal.SIGTERM)
    second_lines, _ = second.communicate(timeout=120)
    assert second.returncode == 0 and holder(fake) == ""
    for text in (first_lines, second_lines):
        ticks = [json.loads(line) for line in text.splitlines()]
        assert ticks and ticks[0]["observation"]["counts"] == COUNTS
    # Without data nothing was changed by either.
    assert {path for method, path in fake.asked if method == "PATCH"} == {LEASE}


def test_a_dry_run_asks_for_no_lease(start: Start, fake: FakeCluster) -> None:
    process = start("--dry-run", "--once")
    text, errors = process.communicate(timeout=120)
    assert process.returncode == 1, "without data nothing was seen"
    assert "nothing was seen" in errors
    assert json.loads(text)["observation"]["counts"] == COUNTS
    assert holder(fake) == ""


def test_the_file_names_deployments_in_full(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS)
    replicas = read_replicas(path)
    assert replicas.ensemble == "shop" and replicas.asked.settings.policy == "elasticrec"
    front, shard = replicas.asked.targets
    assert (front.name, front.model, front.role, front.unit, front.maximum) == ("shop-front", "shop", "front", "replica", 6)
    assert (shard.max_qps, shard.maximum) == (120, 8)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('ensemble = "shop"', "", "ensemble: expected the name"),
        ('role = "front"', "", "expected a model and a role"),
        ('role = "front"', 'role = "back"', "role: expected"),
        ("maximum = 6", "most = 6", "unknown key 'most'"),
        ("maximum = 6", "maximum = 0", "can't have 1 to 0"),
        ("interval_s = 1", "interval_s = 0", "interval_s is 0"),
        (SETTINGS[SETTINGS.index("[targets") :], "", "targets: expected a table"),
        ("maximum = 6", "minimum = 0", "can't have 0 to 8 replicas"),
        ("maximum = 6", 'maximum = 6\ngroup = "shop-front"', "is a target and a group"),
        ("maximum = 6", "maximum = 6\n[groups.shop]\nminimum = 2", "no target is of the group 'shop'"),
        ("maximum = 6", 'maximum = 6\ngroup = "fronts"\n[groups.fronts]\nminimum = 7', "may not have 7 units"),
        ("maximum = 6", 'maximum = 6\ngroup = "fronts"\n[groups.fronts]\ncores = 0', "cores are 0"),
    ],
)
def test_what_is_wrong_in_it_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_replicas(path)


def test_targets_of_a_group_may_be_none_and_their_group_has_bounds(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    text = SETTINGS.replace("maximum = 6", 'minimum = 0\ngroup = "fronts"', 1)
    path.write_text(text + "\n[groups.fronts]\nminimum = 2\ncores = 12\n")
    asked = read_replicas(path).asked
    assert (asked.targets[0].minimum, asked.targets[0].group, asked.targets[1].group) == (0, "fronts", None)
    assert asked.settings.groups == {"fronts": GroupBounds(2, 12.0)}


@pytest.mark.parametrize(("arguments", "message"), [(["."], "needs no DIR"), ([], "needs --settings")])
def test_what_is_missing_is_said(run_here: Run, arguments: list[str], message: str) -> None:
    done = run_here("control", "--kubernetes", "--metrics-url", "http://127.0.0.1:9/metrics", *arguments)
    assert done.returncode == 2 and message in done.stderr
