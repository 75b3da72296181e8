"""Workers of recsplit's engine as what a controller changes: counts, changes and refusals, and `recsplit control` from end to end."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recsplit
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.repository.find import find
from recsplit.serving import serve
from recsplit.serving.server import Server
from recsplit.serving.workers import set_workers, workers
from recsplit_controller.actuate.together import Together
from recsplit_controller.actuate.workers import WorkersActuator, has_engine
from recsplit_controller.targets.targets import of_plan
from recsplit_controller.values.decision import Action
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target
from tests.conftest import Run

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers") / "models"
    for name, form in (("parts", "ensemble"), ("whole", "fused")):
        recsplit.build("recsplit.zoo.tiny:dlrm", out=folder, name=name, embedding_runtime="native", form=form, threads=1, search_s=0)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository) as running:
        yield running


def test_workers_are_the_units_of_what_the_engine_runs(repository: Path) -> None:
    parts, whole = (of_plan(find(repository, name).plan, engine=True) for name in ("parts", "whole"))
    assert [(target.name, target.unit, target.cores) for target in parts] == [
        ("parts_embedding", "worker", 1.0),
        ("parts_dense", "worker", 1.0),
    ]
    assert [(target.name, target.model, target.role, target.unit) for target in whole] == [("whole", "whole", "front", "worker")]


def test_counts_are_the_engines_and_a_change_is_there_at_once(server: Server, repository: Path) -> None:
    targets = of_plan(find(repository, "parts").plan, engine=True)
    actuator = Together(dict.fromkeys([target.name for target in targets], WorkersActuator(server.grpc_url, targets)))
    assert actuator.counts() == {"parts_embedding": Count.steady(1), "parts_dense": Count.steady(1)}
    actuator.begin(Action("scale", "parts_dense", 3, 0.0, "a test"))
    (outcome,) = actuator.outcomes()
    assert outcome.error is None and actuator.outcomes() == [] and actuator.ill() == {}
    assert actuator.counts() == {"parts_embedding": Count.steady(1), "parts_dense": Count.steady(3)}
    with pytest.raises(InputError, match="'whole' is no target here"):
        actuator.begin(Action("scale", "whole", 2, 0.0, "a test"))
    actuator.close()
    set_workers(server.running.folder, "parts_dense", 1)


def test_a_model_that_the_engine_has_not_is_unknown_and_an_action_on_it_fails_with_the_reason(server: Server) -> None:
    actuator = WorkersActuator(server.grpc_url, [Target("gone", "gone", "dense", "worker")])
    assert actuator.counts() == {"gone": Count()}
    actuator.begin(Action("scale", "gone", 2, 0.0, "a test"))
    (outcome,) = actuator.outcomes()
    assert outcome.error is not None and "no model 'gone'" in outcome.error


def test_where_no_engine_answers_the_units_are_instances(repository: Path, server: Server) -> None:
    assert has_engine(server.grpc_url) and not has_engine("127.0.0.1:9")
    parts, whole = (of_plan(find(repository, name).plan, engine=False) for name in ("parts", "whole"))
    assert {(target.model, target.unit, target.cores) for target in (*parts, *whole)} == {
        ("parts_embedding", "instance", 1.0),
        ("parts_dense", "instance", 1.0),
        ("whole", "instance", 1.0),
    }
    gone = WorkersActuator("127.0.0.1:9", [Target("m", "m", "dense", "worker")])
    assert gone.counts() == {"m": Count()}
    gone.begin(Action("scale", "m", 2, 0.0, "a test"))
    assert [outcome.error for outcome in gone.outcomes()] == ["the server at 127.0.0.1:9 is away"]


def test_control_gives_workers_to_a_fused_model_under_load(server: Server, repository: Path, run_here: Run, tmp_path: Path) -> None:
    folder = server.running.folder
    assert set_workers(folder, "whole", 1)["whole"] == 1
    settings = tmp_path / "settings.toml"
    # So little is enough to be busy that any load asks for more.
    settings.write_text("interval_s = 1.0\nbusy_share = 0.001\ncores = 4\n[targets.whole]\nmaximum = 3\n")
    ended, errors = threading.Event(), list[Exception]()

    def ask() -> None:
        request = {"dense": np.ones((64, 4), np.float32), "user": np.arange(64), "item": np.arange(64), "tags": np.zeros((64, 5), np.int64)}
        try:
            with Client(server.grpc_url, "whole") as client:
                while not ended.is_set():
                    client.infer(request)
        except Exception as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        done = run_here("control", repository, "--model", "whole", "--settings", settings, "--once")
    finally:
        ended.set()
        asking.join()
    assert done.returncode == 0, done.stderr
    assert errors == []
    assert workers(folder)["whole"] == 3
