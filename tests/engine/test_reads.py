"""What the engine counts and samples of its reads, in a real Triton, beside what was sent."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import recsplit
from recsplit.cli import cli
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.partition.access import frequencies
from recsplit.serving import serve
from recsplit.serving.server import Server
from recsplit.serving.workers import read
from tests.build.partitions import profile_file
from tests.waiting import until

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

ROWS = {"user": 1000, "item": 400, "tags": 100}
QUERIES, SIZE = 300, 64


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, its rows in their own order; and another with rows by heat, fused and in fewer bits."""
    folder = tmp_path_factory.mktemp("reads")
    profile = profile_file(folder / "access.npz", ROWS, model="ordered")
    recsplit.build("recsplit.zoo.tiny:dlrm", out=folder / "models", name="tiny", embedding_runtime="native", search_s=0)
    recsplit.build(
        "recsplit.zoo.tiny:dlrm", out=folder / "models", name="ordered", form="fused", search_s=0, order_by=profile, table_dtype=("int8",)
    )
    recsplit.build("recsplit.zoo.lookups:masked_mean", out=folder / "models", name="graph", embedding_runtime="native", search_s=0)
    return folder / "models"


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    """Both, served."""
    with serve(repository) as running:
        yield running


def asked(server: Server, name: str) -> dict[str, NDArray[np.int64]]:
    """Queries whose ids follow a law, after the counts began anew; all ids sent, by table."""
    random = np.random.default_rng(0)
    model = "ordered" if name == "ordered" else "tiny_embedding"
    read(server.running.folder, model, clear=True)
    sent: dict[str, list[NDArray[np.int64]]] = {table: [] for table in ROWS}
    with Client(server.grpc_url, name) as client:
        for _ in range(QUERIES):
            query = {
                "user": random.zipf(1.3, SIZE).clip(max=999),
                "item": random.integers(0, 400, SIZE),
                "tags": random.integers(0, 10, (SIZE, 5)),
            }
            client.infer({"dense": np.zeros((SIZE, 4), np.float32), **query})
            for table, ids in query.items():
                sent[table].append(ids.reshape(-1))
    return {table: np.concatenate(ids) for table, ids in sent.items()}


@pytest.mark.parametrize("name", ["tiny", "ordered"])
def test_a_warm_up_is_no_read_of_clients(repository: Path, name: str) -> None:
    assert "model_warmup" in (repository / "ordered" / "config.pbtxt").read_text()
    with serve(repository, models=[name]) as fresh:
        arguments = ["access", str(repository), "--model", name, "--running", "--grpc-url", fresh.grpc_url, "--json"]
        nothing = CliRunner().invoke(cli, arguments)
        assert isinstance(nothing.exception, InputError) and "less than one query" in str(nothing.exception)
        asked(fresh, name)
        assert CliRunner().invoke(cli, arguments).exit_code == 0


@pytest.mark.parametrize("name", ["tiny", "ordered"])
def test_counts_are_exact_and_samples_are_of_what_was_sent(server: Server, name: str) -> None:
    sent = asked(server, name)
    said = read(server.running.folder, "ordered" if name == "ordered" else "tiny_embedding")
    assert said.rows == QUERIES * SIZE
    for table in said.tables:
        ids = sent[table.name]
        assert (table.rows, table.ids, table.read, table.unknown) == (ROWS[table.name], len(ids), len(ids), 0)
        assert len(table.sampled) == pytest.approx(len(ids) / said.stride, rel=0.5)
        assert set(table.sampled) <= set(ids)  # rows by their own numbers, whatever their order in the file
    users = next(table for table in said.tables if table.name == "user")
    exact, error = (sent["user"] == 1).mean(), 4 * 0.5 / np.sqrt(len(users.sampled))
    assert abs((users.sampled == 1).mean() - exact) < error


def test_the_metrics_page_has_a_series_a_table(server: Server) -> None:
    sent = asked(server, "tiny")

    def page() -> str:
        return str(urllib.request.urlopen(server.metrics_url).read().decode())

    until(lambda: 'recsplit_table_ids{model="tiny_embedding",table="user",version="1"} ' in page(), "the series of a table")
    before = {table: _value(page(), "ids", table) for table in ROWS}
    again = asked(server, "tiny")
    expected = {table: before[table] + len(ids) for table, ids in again.items()}
    until(lambda: all(_value(page(), "ids", table) >= expected[table] for table in ROWS), "the ids that were sent")
    series = page()
    assert sent.keys() == again.keys()
    for table in ROWS:
        rows = _value(series, "rows_read", table)
        assert _value(series, "ids", table) == rows and _value(series, "unknown_ids", table) == 0
        assert _value(series, "bytes_read", table) == rows * 32
        assert _value(series, "cache_lines", table) == rows  # of 32 bytes, two to a line


def _value(page: str, what: str, table: str) -> float:
    name = f'recsplit_table_{what}{{model="tiny_embedding",table="{table}",version="1"}} '
    return next((float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name)), 0.0)


def test_unknown_ids_and_padding_are_counted_apart(server: Server) -> None:
    read(server.running.folder, "tiny_embedding", clear=True)
    request = {
        "dense": np.zeros((2, 4), np.float32),
        "user": np.array([5, 5000]),
        "item": np.array([1, 2]),
        "tags": np.ones((2, 5), np.int64),
    }
    with Client(server.grpc_url, "tiny") as client, pytest.raises(recsplit.UnknownIds):
        client.infer(request)
    users = next(table for table in read(server.running.folder, "tiny_embedding").tables if table.name == "user")
    assert users.ids >= 2 and users.unknown >= 1


def test_recsplit_access_dumps_a_profile(server: Server, repository: Path, tmp_path: Path) -> None:
    sent = asked(server, "tiny")
    arguments = ["access", str(repository), "--model", "tiny", "--running", "--query-size", "64", "-o", str(tmp_path / "a.npz"), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert {item["table"] for item in json.loads(result.stdout)["tables"]} == set(ROWS)
    profile = frequencies.read(tmp_path / "a.npz")
    assert profile.queries == QUERIES
    for table, ids in sent.items():
        assert profile.tables[table].sum() == pytest.approx(len(ids), abs=2)
    assert "reads at random out of" in profile.about.sources[0]


def test_models_that_the_engine_doesnt_read_for_are_told(server: Server) -> None:
    with pytest.raises(InputError, match="ONNX Runtime does the lookups of 'graph_embedding'"):
        read(server.running.folder, "graph_embedding")
    with pytest.raises(InputError, match="no model 'shoes' is loaded by the engine"):
        read(server.running.folder, "shoes")
