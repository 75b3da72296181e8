"""What every actuator tells of a target (instances of Triton, workers of the engine, a fleet's servers, replicas, simulated units):
units that serve and units that were asked for are two counts, and a change that has ended is in both."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import recsplit
from recsplit.engine.compilation import unavailable
from recsplit.serving import serve
from recsplit.serving.fleet.control import PartState, Requests
from recsplit_controller.actuate.cluster import Cluster
from recsplit_controller.actuate.dry import DryActuator
from recsplit_controller.actuate.fleet import FleetActuator
from recsplit_controller.actuate.kubernetes import KubernetesActuator
from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.actuate.workers import WorkersActuator
from recsplit_controller.simulated.plant import Part, Plant
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target
from tests.controller.actuate.fake_cluster import kubeconfig, running
from tests.waiting import until


@dataclass(frozen=True)
class Case:
    """An actuator of one target, and what lets time pass for what is only a stand-in: units that were asked for come."""

    target: str
    actuator: Actuator
    come: Callable[[], None] = lambda: None


@contextlib.contextmanager
def simulated(_folder: Path) -> Iterator[Case]:
    plant = Plant([Part(Target("dense", "dense", "dense", "replica"), Units(start_s=30.0, blocks=False), 2)], bound_ms=100.0)
    at_s = iter(range(60, 100_000, 60))
    yield Case("dense", plant, lambda: plant.advance(np.zeros(0), np.zeros((2, 0)), float(next(at_s))))


@contextlib.contextmanager
def kubernetes(folder: Path) -> Iterator[Case]:
    with running() as fake:
        fake.deployment("front", 2)
        actuator = KubernetesActuator(Cluster(kubeconfig=kubeconfig(fake, folder / "config")), [Target("front", "m", "front", "replica")])

        def come() -> None:
            fake.deployment("front", int(fake.objects["apps/v1/deployments/front"]["spec"]["replicas"]))

        yield Case("front", actuator, come)
        actuator.close()


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[Case]:
    """The fleet's own side of the two files; its servers are counted only (a real fleet is in tests/remote)."""
    requests = Requests(folder)
    requests.tell("0", PartState(2, 2, 8))

    def come() -> None:
        for part, asked in requests.new().items():
            requests.tell(part, PartState(asked.count, asked.count, 8, asked.number))

    yield Case("0", FleetActuator(folder, [Target("0", "m", "shard", "replica")]), come)


@contextlib.contextmanager
def instances(folder: Path) -> Iterator[Case]:
    recsplit.build("recsplit.zoo.tiny:dlrm", out=folder / "models", name="shop", embedding_runtime="onnxruntime", search_s=0)
    with serve(folder / "models") as server:
        actuator = TritonActuator(server.grpc_url, folder / "models", [Target("shop_dense", "shop_dense", "dense")])
        yield Case("shop_dense", actuator)
        actuator.close()


@contextlib.contextmanager
def workers(folder: Path) -> Iterator[Case]:
    if (why := unavailable()) is not None:
        pytest.skip(why)
    recsplit.build("recsplit.zoo.tiny:dlrm", out=folder / "models", name="shop", embedding_runtime="native", search_s=0)
    with serve(folder / "models") as server:
        yield Case("shop_dense", WorkersActuator(server.grpc_url, [Target("shop_dense", "shop_dense", "dense", "worker")]))


def change(case: Case, count: int) -> None:
    """Ask for a count, and wait until it serves; meanwhile nothing is told but what was and what is to be."""
    before = case.actuator.counts()[case.target].serving
    assert before is not None
    ended: list[Outcome] = []

    def has_ended() -> bool:
        seen = case.actuator.counts()[case.target]
        assert seen.asked in (before, count) and seen.serving is not None
        assert min(before, count) <= seen.serving <= max(before, count)
        ended.extend(case.actuator.outcomes())
        case.come()
        return bool(ended)

    case.actuator.begin(Action("scale", case.target, count, 0.0, "a test's"))
    until(has_ended, "the end of a change")
    case.come()
    assert [outcome.error for outcome in ended] == [None]
    until(lambda: case.actuator.counts()[case.target] == Count.steady(count), "units that serve")


@pytest.mark.parametrize("system", [simulated, kubernetes, fleet, instances, workers], ids=lambda system: system.__name__)
def test_serving_and_asked_are_told_apart_and_meet_when_a_change_has_ended(
    system: Callable[[Path], "contextlib.AbstractContextManager[Case]"], tmp_path: Path
) -> None:
    with system(tmp_path) as case:
        present = case.actuator.counts()[case.target].serving
        assert present is not None and case.actuator.counts()[case.target] == Count.steady(present)
        for count in (present + 2, present + 1, present + 3):
            change(case, count)
        assert dict(case.actuator.ill()) == {} and list(case.actuator.outcomes()) == []
        sentences: list[str] = []
        dry = DryActuator(case.actuator, sentences.append)
        before_dry = dry.counts()
        dry.begin(Action("scale", case.target, 1, 0.0, "a test's"))
        assert dry.counts() == before_dry and len(sentences) == 1


def test_what_is_gone_is_not_known_and_no_exception(tmp_path: Path) -> None:
    with fleet(tmp_path) as case:
        shutil.rmtree(tmp_path)
        assert case.actuator.counts() == {"0": Count()}
