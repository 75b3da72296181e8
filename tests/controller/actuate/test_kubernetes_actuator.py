"""Replicas on Kubernetes, against a stand-in for its API server (fake_cluster)."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsplit.errors import InputError
from recsplit_controller.actuate.cluster import Cluster
from recsplit_controller.actuate.kubernetes import KubernetesActuator
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.settings import Target
from tests.controller.actuate.fake_cluster import FakeCluster, kubeconfig, running
from tests.waiting import WITHIN_S

TARGETS = [Target("front", "shop", "front", unit="replica"), Target("shard-1", "shop_embedding_1", "shard", unit="replica")]


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with running() as cluster:
        cluster.deployment("front", 2)
        cluster.deployment("shard-1", 1)
        yield cluster


@pytest.fixture
def actuator(fake: FakeCluster, tmp_path: Path) -> Iterator[KubernetesActuator]:
    kubernetes_actuator = KubernetesActuator(Cluster(kubeconfig=kubeconfig(fake, tmp_path / "config")), TARGETS)
    yield kubernetes_actuator
    kubernetes_actuator.close()


def scale(count: int, target: str = "front") -> Action:
    return Action("scale", target, count, 1000.0, "busy")


def done(actuator: KubernetesActuator, *actions: Action) -> list[Outcome]:
    for action in actions:
        actuator.begin(action)
    ended: list[Outcome] = []
    end_s = time.monotonic() + WITHIN_S
    while len(ended) < len(actions) and time.monotonic() < end_s:
        ended.extend(actuator.outcomes())
        time.sleep(0.01)
    return ended


def asked_for(fake: FakeCluster, path: str, field: str = "replicas") -> int:
    return int(fake.objects[path]["spec"][field])


def test_counts_are_pods_that_run_or_start(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.deployment("front", 5, running=3)
    assert actuator.counts() == {"front": 3, "shard-1": 1}


def test_a_count_that_can_not_be_told_is_none_and_the_others_are_told(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    del fake.objects["apps/v1/deployments/front/scale"]
    assert actuator.counts() == {"front": None, "shard-1": 1}


def test_the_scale_sub_resource_is_patched_and_nothing_else(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    (outcome,) = done(actuator, scale(4))
    assert outcome.error is None and outcome.action == scale(4)
    assert asked_for(fake, "apps/v1/deployments/front/scale") == 4
    assert fake.asked == [("GET", "autoscaling/v2/horizontalpodautoscalers"), ("PATCH", "apps/v1/deployments/front/scale")]


def test_where_an_autoscaler_has_it_the_least_is_set(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.autoscaler("mine", "front", 1, 10)
    (outcome,) = done(actuator, scale(4))
    assert outcome.error is None
    assert asked_for(fake, "autoscaling/v2/horizontalpodautoscalers/mine", "minReplicas") == 4
    assert asked_for(fake, "autoscaling/v2/horizontalpodautoscalers/mine", "maxReplicas") == 10
    assert asked_for(fake, "apps/v1/deployments/front/scale") == 2
    done(actuator, scale(4))
    assert [method for method, _ in fake.asked].count("PATCH") == 1  # it was so already


def test_the_most_is_the_autoscalers_own(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.autoscaler("mine", "front", 1, 3)
    (outcome,) = done(actuator, scale(5))
    assert outcome.error is not None and "allows at most 3" in outcome.error
    assert asked_for(fake, "autoscaling/v2/horizontalpodautoscalers/mine", "minReplicas") == 3


def test_an_autoscaler_of_keda_is_set_by_its_scaled_object(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.autoscaler("keda-hpa-front", "front", 1, 10, owner="front")
    fake.put("keda.sh/v1alpha1/scaledobjects/front", {"spec": {"maxReplicaCount": 10}})
    (outcome,) = done(actuator, scale(4))
    assert outcome.error is None
    assert asked_for(fake, "keda.sh/v1alpha1/scaledobjects/front", "minReplicaCount") == 4
    assert asked_for(fake, "autoscaling/v2/horizontalpodautoscalers/keda-hpa-front", "minReplicas") == 1


def test_two_autoscalers_of_one_deployment_are_refused(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.autoscaler("a", "front", 1, 3)
    fake.autoscaler("b", "front", 1, 3)
    (outcome,) = done(actuator, scale(3))
    assert outcome.error is not None and "a, b" in outcome.error


def test_a_refusal_is_an_outcome_in_its_own_words(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.forbidden.add("apps/v1/deployments/front/scale")
    outcomes = done(actuator, scale(3), scale(3, "shard-1"))
    errors = {outcome.action.target: outcome.error for outcome in outcomes}
    assert "not allowed" in str(errors["front"]) and errors["shard-1"] is None


def test_a_slow_server_costs_no_more_than_the_time_limit(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    assert actuator.counts() == {"front": 2, "shard-1": 1}
    fake.delay.set()
    assert actuator.counts() == {"front": None, "shard-1": None}  # returns, although nothing is answered before the end of this test
    (outcome,) = done(actuator, scale(3))
    assert outcome.error is not None
    fake.delay.clear()
    fake.released.set()
    assert actuator.counts() == {"front": 2, "shard-1": 1}


def test_a_server_that_is_away_gives_no_counts_and_no_exception(tmp_path: Path) -> None:
    with running() as fake:
        path = kubeconfig(fake, tmp_path / "config")
    actuator = KubernetesActuator(Cluster(kubeconfig=path), TARGETS)
    assert actuator.counts() == {"front": None, "shard-1": None}
    (outcome,) = done(actuator, scale(3))
    assert outcome.error is not None and "not to be had" in outcome.error
    actuator.close()


def test_a_new_token_is_read_when_the_old_one_is_refused(actuator: KubernetesActuator, fake: FakeCluster, tmp_path: Path) -> None:
    assert actuator.counts()["front"] == 2
    fake.token = "second"
    kubeconfig(fake, tmp_path / "config", "second")
    assert actuator.counts()["front"] == 2


def test_only_replicas_can_be_scaled(fake: FakeCluster, tmp_path: Path) -> None:
    cluster = Cluster(kubeconfig=kubeconfig(fake, tmp_path / "config"))
    with pytest.raises(InputError, match="Kubernetes has replicas"):
        KubernetesActuator(cluster, [Target("shop_dense", "shop_dense", "dense")])
    cluster.close()
