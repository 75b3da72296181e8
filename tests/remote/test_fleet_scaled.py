"""Servers of a shard that come and go under load, because the controller's actuator asks for it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from recsplit.configs.fleet import Asking
from recsplit.errors import InputError
from recsplit.serving.fleet.fleet import Fleet, serve_fleet
from recsplit.serving.fleet.member import Member
from recsplit_controller.actuate.fleet import FleetActuator
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target
from tests.remote import sharded
from tests.remote.test_fleet import COLD, HOT, Load
from tests.waiting import until

TARGETS = (Target(HOT, "shop_embedding_0", "shard", "replica"), Target(COLD, "shop_embedding_1", "shard", "replica"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    path = tmp_path_factory.mktemp("sharded")
    sharded.write(path)
    stop = threading.Event()
    counts = {"front": 1, HOT: 1, COLD: 1}
    with serve_fleet(path, replicas=counts, most={HOT: 3}, asking=Asking(probe_ms=100)) as running:

        def answer() -> None:
            while not stop.wait(0.05):
                running.answer_requests(lambda _: None)

        thread = threading.Thread(target=answer)
        thread.start()
        yield running
        stop.set()
        thread.join()


@pytest.fixture
def actuator(fleet: Fleet) -> FleetActuator:
    assert fleet.requests is not None
    return FleetActuator(fleet.requests.folder, TARGETS)


def do(actuator: FleetActuator, target: str, count: int) -> Outcome:
    actuator.begin(Action("scale", target, count, 0.0, "the test's"))
    outcomes: list[Outcome] = []

    def answered() -> bool:
        outcomes.extend(actuator.outcomes())
        return bool(outcomes)

    until(answered, "an answer of the fleet")
    return outcomes[0]


def asked(member: Member) -> int:
    """Executions of a shard's server so far."""
    assert member.server is not None
    with InferenceServerClient(member.server.grpc_url) as client:
        statistics = client.get_inference_statistics(f"{sharded.NAME}_embedding_{member.part}")
        return int(statistics.model_stats[0].execution_count)


def test_servers_come_and_go_under_load_and_no_query_fails(fleet: Fleet, actuator: FleetActuator) -> None:
    assert actuator.counts() == {HOT: Count.steady(1), COLD: Count.steady(1)}
    with Load(fleet.fronts[0].grpc_url) as load:
        load.until(100)
        assert do(actuator, HOT, 3).error is None
        assert actuator.counts() == {HOT: Count.steady(3), COLD: Count.steady(1)}
        before = [asked(fleet.member(HOT, number)) for number in range(3)]

        def all_asked() -> bool:
            return all(asked(fleet.member(HOT, number)) > then for number, then in enumerate(before))

        until(all_asked, "queries to the new servers, which the front finds by itself")
        assert do(actuator, HOT, 1).error is None
        load.until(100)
        assert do(actuator, HOT, 2).error is None
        load.until(100)
    assert actuator.counts() == {HOT: Count.steady(2), COLD: Count.steady(1)}
    assert (load.failed, load.wrong) == ([], [])


def test_what_the_fleet_was_not_made_for_is_refused_and_changes_nothing(fleet: Fleet, actuator: FleetActuator) -> None:
    before = actuator.counts()
    refused = do(actuator, COLD, 2)
    assert refused.error == "'1' can't have 2 servers"
    assert actuator.counts() == before
    assert do(actuator, COLD, 1).error is None
    with pytest.raises(InputError, match="servers of 'front' can't be"):
        fleet.scale("front", 2)


def test_a_torn_request_is_nobodys(fleet: Fleet, actuator: FleetActuator) -> None:
    assert fleet.requests is not None
    request_file = fleet.requests.folder / "wanted.json"
    for text in ("{", '{"schema": 9, "parts": {}}', json.dumps({"schema": 1, "parts": {"9": {"count": 1, "number": 99}}})):
        request_file.write_text(text)
        assert fleet.requests.new() == {}
    assert do(actuator, HOT, 1).error is None


def test_without_a_fleet_there_is_nothing_to_act_on(fleet: Fleet, actuator: FleetActuator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no fleet answers"):
        FleetActuator(tmp_path, TARGETS)
    assert fleet.requests is not None
    state = json.loads((fleet.requests.folder / "state.json").read_text())
    with pytest.raises(InputError, match="no shard '7'"):
        FleetActuator(fleet.requests.folder, [Target("7", "x", "shard", "replica")])
    (tmp_path / "state.json").write_text(json.dumps(state | {"pid": 2**30}))
    with pytest.raises(InputError, match="has ended"):
        FleetActuator(tmp_path, TARGETS)


def test_a_fleet_that_goes_away_is_no_exception(tmp_path: Path, fleet: Fleet) -> None:
    assert fleet.requests is not None
    state = tmp_path / "state.json"
    state.write_text((fleet.requests.folder / "state.json").read_text())
    actuator = FleetActuator(tmp_path, TARGETS, timeout_s=0.0)
    state.unlink()
    assert actuator.counts() == {HOT: Count(), COLD: Count()}
    assert do(actuator, HOT, 2).error == "the fleet did not answer within 0 s"


@pytest.mark.parametrize("most", [{"front": 3}, {"7": 2}, {HOT: 1}])
def test_room_that_cant_be_had_is_refused_before_anything_starts(most: dict[str, int], tmp_path: Path) -> None:
    sharded.write(tmp_path / "models")
    with pytest.raises(InputError):
        serve_fleet(tmp_path / "models", replicas={HOT: 2, COLD: 1}, most=most)
