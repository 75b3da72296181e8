"""A running server takes another build: nothing fails, nothing is made of two builds, and what goes wrong leaves the old one serving."""

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import recsplit
from recsplit.configs import override
from recsplit.errors import InputError, RecsplitError
from recsplit.repository.find import find
from recsplit.serving import Server
from recsplit.serving.switching.model_control import ModelControl
from tests.conftest import Run
from tests.serving import versions

MODELS = (versions.NAME, f"{versions.NAME}_embedding", f"{versions.NAME}_dense")


@pytest.fixture(scope="module")
def two_builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("updated") / "models"
    for number in (1, 2):
        versions.build(folder, number)
    return folder


@pytest.fixture
def folder(two_builds: Path, tmp_path: Path) -> Path:
    """A repository that serves version 1 and holds version 2."""
    shutil.copytree(two_builds, tmp_path / "models")
    recsplit.rollback(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with recsplit.serve(folder) as running:
        yield running


def control(server: Server) -> ModelControl:
    return ModelControl(server.grpc_url, server.control_key)


def served(server: Server) -> set[tuple[str, int]]:
    with control(server) as asked:
        return asked.ready()


def all_of(version: int) -> set[tuple[str, int]]:
    return {(model, version) for model in MODELS}


def answered_by(server: Server) -> int:
    with recsplit.Client(server.grpc_url, versions.NAME) as client:
        return versions.number(client.infer(versions.query(3)))


@contextmanager
def under_load(server: Server, clients: int = 4) -> Iterator[Counter[tuple[int, int]]]:
    """(version told, build that answered) of what clients got meanwhile. What failed them is raised at the end."""
    seen: Counter[tuple[int, int]] = Counter()
    over = threading.Event()

    def ask(rows: int) -> None:
        protocol, url = ("grpc", server.grpc_url) if rows % 2 else ("http", server.http_url)
        with recsplit.Client(url, versions.NAME, protocol, timeout_s=60) as client:  # type: ignore[arg-type]
            while not over.is_set():
                answer = client.infer(versions.query(rows))
                seen[answer.version, versions.number(answer)] += 1

    with ThreadPoolExecutor(clients) as threads:
        asking = [threads.submit(ask, rows) for rows in (1, 3, 16, 40)[:clients]]  # the last one is split
        try:
            yield seen
        finally:
            over.set()
    for client in asking:
        client.result()


def test_forth_back_and_forth_again_under_load(server: Server, folder: Path) -> None:
    with under_load(server) as seen:
        for version in (2, 1, 2):
            switched = recsplit.rollback(folder, version=version)
            assert [(each.before, each.after) for each in switched] == [(3 - version, version)]
            assert served(server) == all_of(version)
            before = seen[version, version]
            while seen[version, version] < before + 20:
                threading.Event().wait(0.01)
    assert set(seen) == {(1, 1), (2, 2)}
    (idle,) = recsplit.update(folder)
    assert (idle.before, idle.after, idle.answering_s) == (2, 2, 0.0), "nothing is left to do"


def test_a_build_that_does_not_load_leaves_the_old_one_serving(server: Server, folder: Path) -> None:
    (folder / f"{versions.NAME}_dense/2/model.onnx").write_bytes(b"no model")
    with under_load(server, 2) as seen, pytest.raises(RecsplitError, match=r"refused: .*told_dense"):
        recsplit.rollback(folder, version=2)
    assert set(seen) == {(1, 1)}
    assert served(server) == all_of(1)


class EndedError(Exception):
    pass


@pytest.mark.parametrize("step", ["loading", "takes the place", "last requests"])
def test_a_switch_that_was_ended_is_ended_by_the_next(server: Server, folder: Path, step: str) -> None:
    def end(text: str) -> None:
        if step in text:
            raise EndedError

    with under_load(server, 2) as seen:
        with pytest.raises(EndedError):
            recsplit.rollback(folder, version=2, progress=end)
        recsplit.update(folder)
    assert set(seen) <= {(1, 1), (2, 2)}
    assert served(server) == all_of(2)
    assert answered_by(server) == 2


def test_what_the_controller_set_stays(server: Server, folder: Path) -> None:
    model = f"{versions.NAME}_dense"
    rendered = override.read((folder / model / "config.pbtxt").read_text(), "config.pbtxt")
    asked = override.Served(count=2, policy="recsplit_heal_1", threads=1, versions=(1,))
    with control(server) as changed:
        changed.end(changed.load(model, override.override(rendered, asked), 60))
        recsplit.rollback(folder, version=2)
        assert changed.beyond(model, 2) == override.Served(2, "recsplit_heal_1", 1, (2,))
    assert answered_by(server) == 2


def test_a_version_that_is_gone_from_the_disk_is_not_served_on(server: Server, folder: Path) -> None:
    versions.build(folder, 3, keep=1)
    with pytest.raises(InputError, match="version 1, which the server runs, is no longer in") as caught:
        recsplit.update(folder)
    assert "--keep" in caught.value.hint
    assert served(server) == all_of(1)
    assert answered_by(server) == 1


def test_another_build_of_the_same_number_is_not_taken_for_it(server: Server, folder: Path) -> None:
    shutil.rmtree(folder)
    versions.build(folder, 7)
    with pytest.raises(InputError, match="another build as version 1"):
        recsplit.update(folder)
    assert answered_by(server) == 1


class Wider(versions.Told):
    """Takes another input."""

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        """INT64 [batch, 2] -> FP32 [batch]."""
        return super().forward(item.sum(dim=1))


def test_builds_that_take_other_inputs_are_not_served_at_once(server: Server, folder: Path) -> None:
    inputs = (torch.tensor([[3, 4], [5, 6], [7, 8]]),)
    recsplit.build(Wider(3), inputs, out=folder, name=versions.NAME, max_batch_size=16, search_s=0)
    with pytest.raises(InputError, match="is another in version 3 than in version 1") as caught:
        recsplit.update(folder)
    assert "restart the server" in caught.value.hint
    assert served(server) == all_of(1)


def test_the_commands_say_what_is_there_and_what_was_done(run_recsplit: Run, server: Server, folder: Path) -> None:
    assert json.loads(run_recsplit("rollback", folder, "--list", "--json").stdout) == [
        {"version": version, "build": find(folder).plan.build if version == 1 else build_id(folder, 2), "served": version == 1}
        for version in (1, 2)
    ]
    done = run_recsplit("rollback", folder, "--to", "2")
    assert done.returncode == 0
    assert server.grpc_url in done.stdout
    assert f"holds {versions.NAME} version 2" in done.stdout
    again = json.loads(run_recsplit("update", folder, "--json").stdout)
    assert [(each["before"], each["after"]) for each in again["servers"]] == [(2, 2)]
    refused = run_recsplit("rollback", folder, "--to", "9")
    assert refused.returncode == 2


def build_id(folder: Path, version: int) -> str:
    return (folder / versions.NAME / str(version) / "build.txt").read_text().strip()


def test_without_a_server_only_the_folder_changes(run_recsplit: Run, folder: Path) -> None:
    done = run_recsplit("rollback", folder, "--to", "2")
    assert done.returncode == 0
    assert "No server of yours on this machine serves" in done.stdout
    assert find(folder).plan.version == 2


def test_a_key_that_does_not_fit_is_refused(run_recsplit: Run, server: Server, folder: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 32)
    key.chmod(0o600)
    done = run_recsplit("update", folder, "--grpc-url", server.grpc_url, "--control-key", key)
    assert done.returncode == 2
    assert "closed to this key" in done.stderr
    assert "--grpc-url" in run_recsplit("update", folder, "--control-key", key).stderr
