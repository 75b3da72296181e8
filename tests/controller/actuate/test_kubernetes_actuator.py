"""Replicas on Kubernetes, against a stand-in for its API server (fake_cluster)."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsplit.errors import InputError
from recsplit_controller.actuate.cluster import Cluster
from recsplit_controller.actuate.kubernetes import KubernetesActuator
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
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


@pytest.mark.parametrize("minor", [28, 36, 37, 99])
def test_a_server_that_kr8s_does_not_know_yet_is_asked_without_a_warning(
    minor: int, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with running() as fake:
        fake.minor = minor
        fake.deployment("front", 2)
        actuator = KubernetesActuator(Cluster(kubeconfig=kubeconfig(fake, tmp_path / "config")), TARGETS[:1])
        assert actuator.counts() == {"front": Count.steady(2)}
        actuator.close()
    assert not recwarn.list


def test_pods_that_are_ready_serve_and_the_spec_says_what_was_asked_for(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.deployment("front", 5, running=3)
    fake.deployment("shard-1", 2, running=0)
    assert actuator.counts() == {"front": Count(3, 5), "shard-1": Count(0, 2)}


def test_an_autoscalers_least_is_told_with_its_counts(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.autoscaler("mine", "front", 3, 10)
    fake.autoscaler("keda-hpa-shard", "shard-1", 1, 10, owner="shard")
    fake.put("keda.sh/v1alpha1/scaledobjects/shard", {"spec": {"maxReplicaCount": 10}})
    assert actuator.counts() == {"front": Count(2, 2, floor=3), "shard-1": Count(1, 1, floor=0)}


def test_counts_take_two_questions_however_many_deployments_there_are(fake: FakeCluster, tmp_path: Path) -> None:
    for number in range(60):
        fake.deployment(f"shard-{number}", number)
    targets = [Target(f"shard-{number}", "m", "shard", "replica") for number in range(60)]
    many = KubernetesActuator(Cluster(kubeconfig=kubeconfig(fake, tmp_path / "config")), targets)
    assert many.counts() == {f"shard-{number}": Count.steady(number) for number in range(60)}
    assert len(fake.asked) == 2
    many.close()


def test_a_count_that_can_not_be_told_is_unknown_told_once_and_the_others_are_told(
    actuator: KubernetesActuator, fake: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    del fake.objects["apps/v1/deployments/front"]
    for _ in range(3):
        assert actuator.counts() == {"front": Count(), "shard-1": Count.steady(1)}
    assert [record.fields for record in caplog.records] == [{"target": "front", "why": "there is no Deployment front"}]  # type: ignore[attr-defined]
    fake.deployment("front", 2)
    assert actuator.counts()["front"] == Count.steady(2)


def test_an_answer_that_is_none_of_kubernetes_is_survived(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.put("apps/v1/deployments/odd", {"metadata": {}})
    fake.objects["apps/v1/deployments/odd"] = {"kind": "Odd"}
    assert actuator.counts() == {"front": Count(), "shard-1": Count()}


def test_the_scale_sub_resource_is_patched_and_nothing_else(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    (outcome,) = done(actuator, scale(4))
    assert outcome.error is None and outcome.action == scale(4)
    assert asked_for(fake, "apps/v1/deployments/front") == 4
    assert fake.managers == {"fieldManager=recsplit-controller"}
    assert fake.asked == [("GET", "autoscaling/v2/horizontalpodautoscalers"), ("PATCH", "apps/v1/deployments/front/scale")]


def test_where_an_autoscaler_has_it_the_least_is_set(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.autoscaler("mine", "front", 1, 10)
    (outcome,) = done(actuator, scale(4))
    assert outcome.error is None
    assert asked_for(fake, "autoscaling/v2/horizontalpodautoscalers/mine", "minReplicas") == 4
    assert asked_for(fake, "autoscaling/v2/horizontalpodautoscalers/mine", "maxReplicas") == 10
    assert asked_for(fake, "apps/v1/deployments/front") == 2
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
    assert outcome.error is not None and "autoscalers/a, horizontalpodautoscalers/b" in outcome.error


def test_a_refusal_is_an_outcome_in_its_own_words(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    fake.forbidden.add("apps/v1/deployments/front/scale")
    outcomes = done(actuator, scale(3), scale(3, "shard-1"))
    errors = {outcome.action.target: outcome.error for outcome in outcomes}
    assert "not allowed" in str(errors["front"]) and errors["shard-1"] is None


def test_a_slow_server_costs_no_more_than_the_time_limit(actuator: KubernetesActuator, fake: FakeCluster) -> None:
    assert actuator.counts() == {"front": Count.steady(2), "shard-1": Count.steady(1)}
    fake.delay.set()
    assert actuator.counts() == {"front": Count(), "shard-1": Count()}  # returns, although nothing is answered before the end of this test
    (outcome,) = done(actuator, scale(3))
    assert outcome.error is not None
    fake.delay.clear()
    fake.released.set()
    assert actuator.counts() == {"front": Count.steady(2), "shard-1": Count.steady(1)}


def test_a_server_that_is_away_gives_no_counts_and_no_exception(tmp_path: Path) -> None:
    with running() as fake:
        path = kubeconfig(fake, tmp_path / "config")
    actuator = KubernetesActuator(Cluster(kubeconfig=path), TARGETS)
    assert actuator.counts() == {"front": Count(), "shard-1": Count()}
    (outcome,) = done(actuator, scale(3))
    assert outcome.error is not None and "not to be had" in outcome.error
    actuator.close()


def test_a_new_token_is_read_when_the_old_one_is_refused(actuator: KubernetesActuator, fake: FakeCluster, tmp_path: Path) -> None:
    assert actuator.counts()["front"] == Count.steady(2)
    fake.token = "second"
    kubeconfig(fake, tmp_path / "config", "second")
    assert actuator.counts()["front"] == Count.steady(2)


def account(folder: Path, token: str, namespace: str = "shop") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(token)
    (folder / "namespace").write_text(f"{namespace}\n")
    return folder


def test_a_pod_acts_in_its_own_namespace_by_its_service_account(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No kubeconfig and no --namespace, a token with a line break at its end, and another one when that has run out."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    cluster = Cluster(url=fake.url, account=account(tmp_path / "account", "first\n"))
    pod = KubernetesActuator(cluster, TARGETS)
    assert pod.counts() == {"front": Count.steady(2), "shard-1": Count.steady(1)}
    fake.token = "second"
    account(tmp_path / "account", "second\n")
    assert pod.counts()["front"] == Count.steady(2)
    fake.token = "third"
    account(tmp_path / "account", "thi\nrd\n")
    assert pod.counts()["front"] == Count()
    words = [str(record.fields["why"]) for record in caplog.records]  # type: ignore[attr-defined]
    assert "holds no single line" in words[-1] and not any("thi\n" in each for each in words)
    pod.close()


def test_a_token_that_no_header_can_hold_is_in_no_log(fake: FakeCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = kubeconfig(fake, tmp_path / "config", "very-secret\n")
    odd = KubernetesActuator(Cluster(kubeconfig=path), TARGETS)
    assert odd.counts()["front"] == Count()
    (outcome,) = done(odd, scale(3))
    assert outcome.error is not None and "line break" in outcome.error
    words = [str(record.fields["why"]) for record in caplog.records]  # type: ignore[attr-defined]
    assert "very-secret" not in caplog.text + "".join(words) + outcome.error
    odd.close()


def test_only_replicas_can_be_scaled(fake: FakeCluster, tmp_path: Path) -> None:
    cluster = Cluster(kubeconfig=kubeconfig(fake, tmp_path / "config"))
    with pytest.raises(InputError, match="Kubernetes has replicas"):
        KubernetesActuator(cluster, [Target("shop_dense", "shop_dense", "dense")])
    cluster.close()
