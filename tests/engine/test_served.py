"""The engine in a real Triton: the same answers, refusals and bags as from the portable form, and workers that change while it serves."""

import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import recsplit
from recsplit.cli import main
from recsplit.client import Client, UnknownIds
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError, RecsplitError
from recsplit.serving import serve
from recsplit.serving.server import Server
from recsplit.serving.workers import set_workers, workers

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

MODELS = {"tiny": "recsplit.zoo.tiny:dlrm", "bags": "recsplit.zoo.bags:facebook"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of fixed inputs and one of ragged bags, for the engine, and the first for ONNX Runtime too."""
    folder = tmp_path_factory.mktemp("native") / "models"
    for name, source in MODELS.items():
        recsplit.build(source, out=folder, name=name, embedding_runtime="native", search_s=0)
    recsplit.build(MODELS["tiny"], out=folder, name="portable", embedding_runtime="onnxruntime", search_s=0)
    for name, source in MODELS.items():
        recsplit.build(source, out=folder, name=f"{name}_fused", embedding_runtime="native", form="fused", search_s=0)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    """The models of the repository, served."""
    with serve(repository) as running:
        yield running


@pytest.mark.parametrize("name", [*MODELS, "tiny_fused", "bags_fused"])
def test_a_served_build_is_proved(repository: Path, server: Server, name: str) -> None:
    proof = recsplit.verify(repository, model=name, grpc_url=server.grpc_url, http_url=server.http_url, repeats=1)
    assert proof.ok, proof
    assert {"source - served, gRPC", "source - served, HTTP", "whole - engine"} <= {difference.stage for difference in proof}


def test_no_process_of_python_serves_it(server: Server) -> None:
    assert {path.parts[-3] for path in stubs(server)} == {"portable_embedding", "portable_dense"}  # the build for ONNX Runtime has some


def stubs(server: Server) -> list[Path]:
    """The model files of a server's Python processes: <model>/<version>/model.onnx."""
    files = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if "triton_python_backend_stub" in words[0] and server.running.folder.name in words[0]:
            files.append(Path(words[1]))
    return files


def test_an_unknown_id_is_refused_in_the_same_words(server: Server) -> None:
    request = {
        "dense": np.zeros((3, 4), np.float32),
        "user": np.array([1, 2, 3]),
        "item": np.array([1, 2**40, 3]),
        "tags": np.zeros((3, 5), np.int64),
    }
    said = []
    for name in ("tiny", "tiny_fused", "portable"):
        with Client(server.grpc_url, name) as client, pytest.raises(UnknownIds) as refusal:
            client.infer(request)
        said.append((str(refusal.value).replace(f"'{name}", "'"), refusal.value.unknown_ids))
    assert said[0] == said[1] == said[2]


def test_bad_requests_fail_alone_under_load(server: Server) -> None:
    good = {
        "dense": np.ones((2, 4), np.float32),
        "user": np.array([1, 2]),
        "item": np.array([3, 4]),
        "tags": np.arange(10).reshape(2, 5),
    }
    problems: list[str] = []

    def ask(number: int) -> None:
        with Client(server.grpc_url, "tiny") as client:
            for turn in range(60):
                bad = (turn + number) % 5 == 0
                request = {**good, "item": np.array([3, 400])} if bad else good
                try:
                    answer = client.infer(request)["output"]
                    if bad or not np.array_equal(answer, want):
                        problems.append(f"{bad} {answer}")
                except UnknownIds as error:
                    if not bad or "400" not in str(error):
                        problems.append(str(error))

    with Client(server.grpc_url, "tiny") as client:
        want = client.infer(good)["output"]
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_workers_change_while_it_serves(server: Server) -> None:
    folder = server.running.folder
    parts = {"tiny_embedding", "tiny_dense", "bags_embedding", "bags_dense"}
    assert set(workers(folder)) == {*parts, "tiny_fused", "bags_fused"}
    assert set_workers(folder, "tiny_dense", 3)["tiny_dense"] == 3 == workers(folder)["tiny_dense"]
    ended = threading.Event()
    errors: list[Exception] = []

    def ask() -> None:
        try:
            with Client(server.grpc_url, "tiny") as client:
                request = {
                    "dense": np.ones((300, 4), np.float32),
                    "user": np.arange(300),
                    "item": np.arange(300),
                    "tags": np.zeros((300, 5), np.int64),
                }
                want = client.infer(request)["output"]
                while not ended.is_set():
                    np.testing.assert_array_equal(client.infer(request)["output"], want)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(200):
        for model in ("tiny_dense", "tiny_embedding"):
            set_workers(folder, model, 1 + turn % 4)
    ended.set()
    for thread in threads:
        thread.join()
    assert errors == []
    page = urllib.request.urlopen(server.metrics_url).read().decode()
    assert 'recsplit_workers{model="tiny_dense",version="1"} 4' in page
    busy = [line for line in page.splitlines() if line.startswith('recsplit_worker_busy_us{model="tiny_dense"')]
    assert len(busy) == 1 and float(busy[0].split()[-1]) > 0


def test_what_can_t_be_is_refused(server: Server) -> None:
    for model, count in (("absent", 1), ("tiny_dense", 0), ("tiny_dense", 10**9)):
        with pytest.raises(InputError, match="the engine refuses"):
            set_workers(server.running.folder, model, count)


def test_without_the_engine_the_same_repository_answers_the_same(repository: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    request = {
        "dense": np.ones((70, 4), np.float32),
        "user": np.arange(70),
        "item": np.arange(70),
        "tags": np.arange(350).reshape(70, 5) % 100,
    }
    with Client(server.grpc_url, "tiny") as client:
        want = client.infer(request)["output"]
    monkeypatch.setattr("recsplit.engine.compilation.compilers", list)
    monkeypatch.setattr("recsplit.engine.compilation.made", lambda: None)
    with serve(repository, models=("tiny", "tiny_fused")) as portable:
        for name in ("tiny", "tiny_fused"):
            with Client(portable.grpc_url, name) as client:
                np.testing.assert_allclose(client.infer(request)["output"], want, rtol=1e-6)
        assert {path.parts[-3] for path in stubs(portable)} == {"tiny_embedding", "tiny_dense", "tiny_fused"}


def test_without_the_engine_a_build_for_it_is_proved_by_onnxruntime(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("recsplit.engine.compilation.compilers", list)
    monkeypatch.setattr("recsplit.engine.compilation.made", lambda: None)
    proof = recsplit.verify(repository, model="tiny", repeats=1)
    assert proof.ok and "whole - parts" in {difference.stage for difference in proof}
    assert not any("engine" in difference.stage for difference in proof)
    built = recsplit.build(MODELS["tiny"], out=tmp_path / "models", search_s=0)
    assert built.plan.embedding.runtime == built.plan.dense.runtime == "onnxruntime"
    assert "ONNX Runtime serves it, not recsplit's engine: there is no C++ compiler here (recsplit backend build says more)" in built.notes
    with pytest.raises(RecsplitError, match="there is no C"):
        recsplit.build(MODELS["tiny"], out=tmp_path / "models", embedding_runtime="native", search_s=0)


def test_a_fused_build_takes_the_place_of_another_without_a_failure(tmp_path: Path) -> None:
    def build() -> None:  # random weights: two builds answer otherwise
        example = (torch.arange(8).reshape(4, 2),)
        recsplit.build(Sums(), example, out=tmp_path, name="tiny", embedding_runtime="native", form="fused", search_s=0)

    answers: list[tuple[int, bytes]] = []
    errors: list[Exception] = []
    ended = threading.Event()
    request = {"ids": np.arange(40).reshape(20, 2)}
    build()
    with serve(tmp_path) as server:

        def ask() -> None:
            try:
                with Client(server.grpc_url, "tiny") as client:
                    while not ended.is_set():
                        answer = client.infer(request)
                        answers.append((answer.version, next(iter(answer.values())).tobytes()))
            except Exception as error:
                errors.append(error)

        build()
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        recsplit.update(tmp_path)
        recsplit.rollback(tmp_path)
        ended.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert {version for version, _ in answers} == {1, 2}
    assert len(set(answers)) == 2  # each version has one answer


class Sums(torch.nn.Module):
    """A small model with random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = torch.nn.EmbeddingBag(50, 8, mode="sum"), torch.nn.Linear(8, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = torch.sigmoid(self.linear(self.table(ids)))
        return answer


def test_pods_run_a_native_build_by_onnxruntime_until_their_image_has_the_engine(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "k8s"
    render = ["render", "kubernetes", str(repository), "--model", "bags", "-o", str(folder)]

    def backends() -> dict[str, bool]:
        """By model whose config isn't the repository's: whether it is the engine's."""
        return {path.stem: 'backend: "onnxruntime"' not in path.read_text() for path in folder.rglob("*.pbtxt")}

    assert main(render) == 0
    said = capsys.readouterr()
    assert "ONNX Runtime runs what was built for the engine: recsplit backend export" in said.out + said.err
    assert backends() == {"bags_embedding": False, "bags_dense": False}
    assert not any("allow_ragged_batch" in path.read_text() for path in folder.rglob("*.pbtxt"))
    values = folder / "values.yaml"
    values.write_text(values.read_text().replace("engine: false", "engine: true"))
    assert main(render) == 0
    said = capsys.readouterr()
    assert "ONNX Runtime runs" not in said.out + said.err and backends() == {}
    assert main(["render", "kubernetes", str(repository), "--model", "tiny_fused", "-o", str(tmp_path / "other")]) == 2
    assert "'tiny_fused' is fused" in capsys.readouterr().err
