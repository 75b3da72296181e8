"""An access profile of what a partitioned model is asked while it runs, in one server and as a fleet."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from recsplit.cli import cli
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError, RecsplitError
from recsplit.partition.access import frequencies
from recsplit.serving import serve
from recsplit.serving.fleet.fleet import Fleet, serve_fleet
from tests.remote import engine_fleet, sharded

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

QUERIES = 300


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_fleet.write(tmp_path_factory.mktemp("sharded"))


@pytest.fixture(scope="module")
def fleet(repository: Path) -> Iterator[Fleet]:
    with serve_fleet(repository, replicas={"front": 2, "0": 1, "1": 1}) as running:
        yield running


def access(repository: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["access", str(repository), "--running", "--json", *arguments])


def asked(url: str) -> NDArray[np.int64]:
    """Queries of a batch each, one table's ids skewed; all ids."""
    random = np.random.default_rng(0)
    ids = np.minimum(random.geometric(0.02, (QUERIES, sharded.BATCH, 4)), sharded.ROWS) - 1
    with Client(url, sharded.NAME) as client:
        for query in ids:
            client.infer({"ids": query})
    return ids


def matches(profile: frequencies.AccessProfile, ids: NDArray[np.int64]) -> None:
    """All reads are counted, and the rows that were read most have about their share."""
    counts = profile.tables["items"].astype(np.float64)
    assert counts.sum() == pytest.approx(ids.size, rel=0.02)
    share = np.bincount(ids.ravel(), minlength=sharded.ROWS) / ids.size
    assert counts[:30].sum() / counts.sum() == pytest.approx(share[:30].sum(), abs=0.1)


def test_a_front_of_a_fleet_tells_what_it_was_asked(fleet: Fleet, repository: Path, tmp_path: Path) -> None:
    url = fleet.fronts[0].grpc_url
    ids = asked(url)
    result = access(repository, "--grpc-url", url, "--query-size", str(sharded.BATCH), "-o", str(tmp_path / "a.npz"))
    assert result.exit_code == 0, result.output
    assert [table["table"] for table in json.loads(result.stdout)["tables"]] == ["items"]
    matches(frequencies.read(tmp_path / "a.npz"), ids)


def test_a_sample_is_kept_where_no_profile_was_written(fleet: Fleet, repository: Path, tmp_path: Path) -> None:
    url = fleet.fronts[0].grpc_url
    ids = asked(url)
    of_front = ("--grpc-url", url, "--clear")
    failed = access(repository, *of_front, "-o", "/proc/a.npz")
    assert failed.exit_code != 0
    result = access(repository, *of_front, "-o", str(tmp_path / "a.npz"))
    assert result.exit_code == 0, result.output
    assert frequencies.read(tmp_path / "a.npz").tables["items"].sum() >= 0.98 * ids.size
    again = access(repository, *of_front)
    assert isinstance(again.exception, InputError) and "less than one query" in str(again.exception)


def test_of_several_fronts_one_is_to_be_named(fleet: Fleet, repository: Path) -> None:
    result = access(repository)
    assert isinstance(result.exception, InputError) and "2 servers of yours serve" in str(result.exception)
    assert all(front.grpc_url in str(result.exception) for front in fleet.fronts) and "--merge" in str(result.exception.hint)


def test_a_front_is_known_by_localhost_too_and_after_another_build(fleet: Fleet, repository: Path) -> None:
    engine_fleet.write(repository.parent)  # version 2: the fleet serves version 1
    url = fleet.fronts[0].grpc_url
    asked(url)
    assert access(repository, "--grpc-url", url.replace("127.0.0.1", "localhost")).exit_code == 0
    several = access(repository)
    assert isinstance(several.exception, InputError) and "2 servers of yours serve" in str(several.exception)


def test_of_a_shard_it_is_told_that_a_front_is_asked(fleet: Fleet, repository: Path) -> None:
    url = next(member.server.grpc_url for member in fleet.members if member.part == "0" and member.server is not None)
    result = access(repository, "--grpc-url", url)
    assert isinstance(result.exception, InputError) and "doesn't do the lookups of" in str(result.exception)
    assert "a front is asked" in str(result.exception.hint)


def test_a_server_that_stands_still_is_told_as_one(fleet: Fleet, repository: Path) -> None:
    os.kill(fleet.fronts[0].pid, signal.SIGSTOP)
    try:
        result = access(repository, "--grpc-url", fleet.fronts[0].grpc_url)
    finally:
        os.kill(fleet.fronts[0].pid, signal.SIGCONT)
    assert isinstance(result.exception, RecsplitError) and "doesn't answer within" in str(result.exception)


def test_shards_in_one_server_are_sampled_where_ids_come_in(repository: Path, tmp_path: Path) -> None:
    with serve(repository) as server:
        ids = asked(server.grpc_url)
        result = access(repository, "--grpc-url", server.grpc_url, "-o", str(tmp_path / "a.npz"))
        assert result.exit_code == 0, result.output
        matches(frequencies.read(tmp_path / "a.npz"), ids)


def test_no_server_is_told_as_before(repository: Path, tmp_path: Path) -> None:
    result = access(engine_fleet.write(tmp_path))
    assert isinstance(result.exception, InputError) and "no server of yours on this machine serves" in str(result.exception)
