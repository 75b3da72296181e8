"""One controller acts and the others wait, against a stand-in for Kubernetes' API server (fake_cluster)."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from recsplit_controller.actuate.cluster import Cluster
from recsplit_controller.lease.kubernetes import DURATION_S, KubernetesLease
from tests.controller.actuate.fake_cluster import FakeCluster, kubeconfig, running

PATH = "coordination.k8s.io/v1/leases/shop-controller"


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def controller(fake: FakeCluster, clock: Clock, tmp_path: Path) -> Iterator[Callable[[], KubernetesLease]]:
    clusters: list[Cluster] = []

    def new_lease() -> KubernetesLease:
        clusters.append(Cluster(kubeconfig=kubeconfig(fake, tmp_path / "config")))
        return KubernetesLease(clusters[-1], "shop-controller", 5.0, clock=clock)

    yield new_lease
    for cluster in clusters:
        cluster.close()


def spec(fake: FakeCluster) -> dict[str, Any]:
    held: dict[str, Any] = fake.objects[PATH]["spec"]
    return held


def test_the_first_takes_it_and_the_second_waits(controller: Callable[[], KubernetesLease], fake: FakeCluster) -> None:
    first, second = controller(), controller()
    assert first.hold() is None
    assert second.hold() == f"{first.identity} holds the lease shop-controller"
    assert spec(fake)["holderIdentity"] == first.identity
    assert spec(fake)["leaseDurationSeconds"] >= 3 * 5
    datetime.strptime(spec(fake)["renewTime"], "%Y-%m-%dT%H:%M:%S.%fZ")


def test_a_lease_without_a_holder_as_the_manifests_have_it_is_taken(controller: Callable[[], KubernetesLease], fake: FakeCluster) -> None:
    fake.put(PATH, {"kind": "Lease", "metadata": {"name": "shop-controller", "labels": {"mine": "kept"}}})
    assert controller().hold() is None
    assert not [path for method, path in fake.asked if method == "POST"]
    assert fake.objects[PATH]["metadata"]["labels"] == {"mine": "kept"}


def test_a_holder_that_renews_keeps_it(controller: Callable[[], KubernetesLease], clock: Clock, fake: FakeCluster) -> None:
    first, second = controller(), controller()
    for _ in range(20):
        assert first.hold() is None
        assert second.hold() is not None
        clock.now_s += 5
    assert spec(fake)["leaseTransitions"] == 0


def test_a_holder_that_died_is_followed_when_its_time_is_over(
    controller: Callable[[], KubernetesLease], clock: Clock, fake: FakeCluster
) -> None:
    first, second = controller(), controller()
    assert first.hold() is None
    assert second.hold() is not None
    clock.now_s += first.duration_s - 1
    assert second.hold() is not None
    clock.now_s += 2
    assert second.hold() is None
    assert spec(fake)["holderIdentity"] == second.identity and spec(fake)["leaseTransitions"] == 1
    assert first.hold() is not None


def test_how_old_a_lease_is_counts_from_when_it_was_first_seen(controller: Callable[[], KubernetesLease], clock: Clock) -> None:
    """The clock of its holder may be hours behind."""
    assert controller().hold() is None
    clock.now_s += 1e6
    second = controller()
    assert second.hold() is not None
    clock.now_s += DURATION_S * 2
    assert second.hold() is None


def test_what_is_given_back_is_free_at_once(controller: Callable[[], KubernetesLease]) -> None:
    first, second = controller(), controller()
    assert first.hold() is None
    assert second.hold() is not None
    first.release()
    first.release()
    assert second.hold() is None


def test_one_that_never_held_it_gives_nothing_back(controller: Callable[[], KubernetesLease], fake: FakeCluster) -> None:
    first, second = controller(), controller()
    assert first.hold() is None
    assert second.hold() is not None
    second.release()
    assert spec(fake)["holderIdentity"] == first.identity


def test_a_cluster_that_is_away_stops_the_holder_before_another_may_begin(
    controller: Callable[[], KubernetesLease], clock: Clock, fake: FakeCluster
) -> None:
    first = controller()
    assert first.hold() is None
    fake.forbidden.add(PATH)
    clock.now_s += 5
    assert first.hold() is None
    clock.now_s += first.duration_s - 6
    why = first.hold()
    assert why is not None and "can't be renewed" in why
    fake.forbidden.clear()
    assert first.hold() is None


def test_of_many_at_once_one_gets_it(controller: Callable[[], KubernetesLease], fake: FakeCluster) -> None:
    fake.put(PATH, {"kind": "Lease", "metadata": {"name": "shop-controller"}})
    rivals = [controller() for _ in range(6)]
    reasons: list[str | None] = []
    threads = [threading.Thread(target=lambda lease=lease: reasons.append(lease.hold())) for lease in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons.count(None) == 1 and len(reasons) == len(rivals)


@pytest.mark.parametrize(
    "odd", [{"spec": {"leaseDurationSeconds": "soon"}}, {"spec": 7}, {"metadata": None}, {"spec": {"leaseDurationSeconds": -1}}]
)
def test_a_lease_that_says_nonsense_is_no_end_of_the_controller(
    odd: dict[str, Any], controller: Callable[[], KubernetesLease], clock: Clock, fake: FakeCluster
) -> None:
    """While it was renewed lately this controller goes on; then it waits, with the reason, until somebody mends the Lease."""
    first = controller()
    assert first.hold() is None
    good = fake.objects[PATH]
    fake.objects[PATH] = {**good, **odd}
    clock.now_s += 5
    assert first.hold() is None
    clock.now_s += DURATION_S
    assert "can't be read" in str(first.hold())
    first.release()
    fake.objects[PATH] = good
    clock.now_s += 2 * DURATION_S
    assert first.hold() is None
