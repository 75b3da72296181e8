import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.capacity.profile import to_json as profile_json
from recsplit.cli import main
from recsplit.client import Client
from recsplit.commands import partition
from recsplit.partition import algorithms, partition_file
from recsplit.partition.access import frequencies
from recsplit.serving import serve
from tests.capacity.profiles import small

ROWS = {"user": 1000, "item": 400, "tags": 100}


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny DLRM, a trace, its access profile and a partition by that, and many files that are something else."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    np.savez(folder / "trace.npz", user=rng.integers(0, 1000, 3000), item=rng.integers(0, 10, 3000), tags=rng.integers(0, 100, (3000, 5)))
    for arguments in (
        f"build recsplit.zoo.tiny:dlrm -o {folder}/tiny --name tiny",
        f"access {folder}/tiny --trace {folder}/trace.npz --query-size 30 -o {folder}/a.npz",
        f"access {folder}/tiny --law two-level=0.9,0.1 --queries 2000 --query-size 10 -o {folder}/law.npz",
        f"partition {folder}/tiny --access {folder}/a.npz --qps 200 --min-mb 0.005 --algorithm whole -o {folder}/p.json",
    ):
        assert main(shlex.split(arguments)) == 0
    (folder / "q.json").write_text((folder / "p.json").read_text().replace('"tiny"', '"other"'))
    for name in ("p.txt", "p.parquet", "text.json"):
        (folder / name).write_text("hello")
    (folder / "empty.json").write_text("[]")
    (folder / "profile.json").write_text(profile_json(small()))
    for model, name, tables in (("other", "other", ROWS), ("tiny", "tables", {"user": 1000}), ("tiny", "rows", {**ROWS, "tags": 5})):
        with (folder / f"{name}.npz").open("wb") as file:
            counts = {table: np.ones(rows, np.uint32) for table, rows in tables.items()}
            frequencies.write(file, frequencies.About(model, 1, 1, 0, ()), counts.items())
    return folder


@pytest.fixture
def here(prepared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with all files of the prepared folder."""
    for path in prepared_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(command: str, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    code = main([*shlex.split(command), "--json"])
    stdout, stderr = capsys.readouterr()
    assert code == 0, stderr
    return json.loads(stdout)


def test_a_trace_becomes_a_profile_and_that_a_partition(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    access_report = answer("access tiny --trace trace.npz --trace trace.npz --query-size 30 -o b.npz", capsys)
    assert access_report["queries"] == 200 and [one["gathers_per_query"] for one in access_report["tables"]] == [30, 30, 150]
    partition_report = answer("partition tiny --access a.npz --qps 200 --min-mb 0.005 -o new.json", capsys)
    written = partition_file.read(here / "new.json")
    partition_file.check(written, ROWS)
    assert written.access == frequencies.digest(here / "a.npz") and written.target_qps == 200 and written.model == "tiny"
    assert partition_report["partition"]["cost"] == written.cost and len(written.shards) > 1
    cold = [segment for shard in written.shards for segment in shard.segments if segment.table == "item" and segment.last == 400]
    assert cold[0].first >= 10  # only ten items are ever read


def test_a_law_is_counted_as_it_is_and_profiles_add_up(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    law = answer("access tiny --law two-level=0.9,0.1 --queries 2000 --query-size 10 -o drawn.npz", capsys)
    assert law["tables"][0]["share"]["0.1"] == pytest.approx(0.9, abs=0.02)
    both = answer("access tiny --merge a.npz --merge drawn.npz -o both.npz", capsys)
    assert both["queries"] == 2100 and both["rows"] == 23_000
    counts = [frequencies.read(here / name).tables["tags"].sum() for name in ("a.npz", "drawn.npz", "both.npz")]
    assert counts[0] + counts[1] == counts[2]


@pytest.mark.slow
def test_live_traffic_is_counted_from_tritons_own_trace(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traced = (f"triton,file={here}/live.json", "level=TIMESTAMPS", "level=TENSORS", "rate=1")
    arguments = [f"--trace-config={item}" for item in traced]
    with serve(here / "tiny", models=["tiny"], extra_args=arguments) as server, Client(server.grpc_url, "tiny") as client:
        for first in (0, 500):
            ids = np.arange(first, first + 4)
            client.infer({"dense": np.zeros((4, 4), np.float32), "user": ids, "item": ids % 7, "tags": np.full((4, 5), 99)})
    assert server.running.process.returncode == 0  # it writes its trace last of all, and isn't killed before
    access_report = answer("access tiny --trace live.json -o live.npz", capsys)
    assert (access_report["queries"], access_report["rows"], access_report["unknown"]) == (2, 8, 0)
    tables = frequencies.read(here / "live.npz").tables
    assert np.flatnonzero(tables["user"]).tolist() == [0, 1, 2, 3, 500, 501, 502, 503] and tables["tags"][99] == 40


def test_an_access_profile_is_shown_and_drawn(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer("access tiny --merge a.npz --plot skew.svg", capsys)
    assert shown["queries"] == 100 and shown["tables"][1]["rows_read"] == 10
    drawn = (here / "skew.svg").read_text()
    assert "<svg" in drawn and all(f">{name}: " in drawn for name in ROWS)


def test_every_algorithm_is_compared_by_one_objective(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partition_report = answer("partition tiny --access a.npz --qps 500 --min-mb 0.001 --dense-ms 2 --compare --algorithm paper", capsys)
    compared = {one["algorithm"]: one["cost"] for one in partition_report["compared"]}
    assert list(compared) == ["one", "tables", "paper", "whole", "grouped", "layers", "front", "joint"]
    assert partition_report["partition"]["cost"] == compared["paper"] > compared["joint"] == min(compared.values())
    assert main(shlex.split("partition tiny --access a.npz --qps 500 --compare --price gb=1,core=0.1,sent=0.01 --bound-ms 900")) == 0
    assert "USD/hour" in capsys.readouterr().out


def test_a_profile_says_what_calls_and_servers_take(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "tiny.json").write_text(profile_json(small()).replace('"shop"', '"tiny"'))
    partition_settings = answer("partition tiny --access a.npz --qps 500 --profile tiny.json", capsys)["settings"]
    assert partition_settings["fit"]["a_ms"] == pytest.approx(0.4 + 0.25) and partition_settings["fit"]["b_ms"] == pytest.approx(0.02 / 7)
    assert (
        partition_settings["front"]["dense_ms"] == pytest.approx(0.3 + 0.01 * 30)
        and partition_settings["front"]["size_bytes"] == 150_000_000
    )
    assert partition_settings["min_bytes"] == 150_000_000 - 4 * 8 * sum(ROWS.values())
    by_hand = answer("partition tiny --access a.npz --qps 500 --profile tiny.json --call-ms 1,2 --min-mb 3", capsys)["settings"]
    assert by_hand["fit"]["b_ms"] == 2 and by_hand["min_bytes"] == 3_000_000


def test_the_command_offers_every_algorithm() -> None:
    assert tuple(algorithms.ALGORITHMS) == partition.ALGORITHMS


def test_an_update_moves_what_pays_and_writes_the_order_it_follows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "partition tiny --access a.npz --qps 200 --min-mb 0.005 --update p.json --was a.npz"
    same = answer(f"{command} -o same.json", capsys)
    assert same["copied_bytes"] == 0 and same["partition"]["shards"] == json.loads((here / "p.json").read_text())["shards"]

    np.savez(here / "moved.npz", **{**np.load("trace.npz"), "item": np.random.default_rng(1).integers(200, 210, 3000)})
    answer("access tiny --trace moved.npz --query-size 30 -o new.npz", capsys)
    command = "partition tiny --access new.npz --qps 200 --min-mb 0.005 --update p.json --was a.npz --hours 100"
    moved = answer(f"{command} -o new.json", capsys)
    assert moved["carried_qps"] < 200 and moved["cost"] < moved["kept_cost"] and moved["copied_bytes"] > 0
    assert [one["table"] for one in moved["tables"] if one["order"] != "old"] == ["item"]
    written = partition_file.read(here / "new.json")
    partition_file.check(written, ROWS)
    assert written.access == frequencies.digest(here / "new.access.npz")
    followed = frequencies.read(here / "new.access.npz").tables
    assert set(frequencies.order(followed["item"])[:10].tolist()) == set(range(200, 210))
    assert np.array_equal(frequencies.order(followed["user"]), frequencies.order(frequencies.read(here / "a.npz").tables["user"]))
    assert main(shlex.split(command)) == 0
    assert "carry" in capsys.readouterr().out


MISTAKES = [
    ("access tiny", "where the accesses come from", "--trace"),
    ("access tiny --trace trace.npz --law uniform", "where the accesses come from", "--merge"),
    ("access tiny --trace nothing.npz", "nothing.npz can't be read", ".npz"),
    ("access tiny --trace p.txt", "no .npz", ".parquet"),
    ("access tiny --trace p.parquet", "no Parquet", ".npz"),
    ("access tiny --trace text.json", "no trace of Triton's", "--trace-config"),
    ("access tiny --trace empty.json", "no request to 'tiny_embedding'", "level=TENSORS"),
    ("access tiny --law zipf", "can't be read", "zipf=ALPHA"),
    ("access tiny --law pareto=1", "not a law", "two-level"),
    ("access tiny --law zipf=99", "alpha is 99", ""),
    ("access tiny --trace trace.npz --query-size 9000", "less than one query", "longer trace"),
    ("access tiny --merge a.npz --merge law.npz", "needs a file", "-o"),
    ("access tiny --merge p.txt -o b.npz", "no access profile", "recsplit access"),
    ("access tiny --law uniform -o no/b.npz", "folder no doesn't exist", "mkdir"),
    ("access nothing --law uniform", "not a folder", "recsplit build"),
    ("partition tiny --access nothing.npz --qps 1", "can't be read", "recsplit access"),
    ("partition tiny --access trace.npz --qps 1", "no access profile", "recsplit access"),
    ("partition tiny --access other.npz --qps 1", "of 'other'", "count again"),
    ("partition tiny --access tables.npz --qps 1", "tables are not those", "count again"),
    ("partition tiny --access rows.npz --qps 1", "has 5 rows", "count again"),
    ("partition tiny --access a.npz --qps 0", "target_qps is 0", ""),
    ("partition tiny --access a.npz --qps -3", "target_qps is -3", ""),
    ("partition tiny --access a.npz --qps nan", "target_qps is nan", ""),
    ("partition tiny --access a.npz --qps 1 --max-shards 0", "max_shards is 0", ""),
    ("partition tiny --access a.npz --qps 1 --call-ms 3", "can't be read", "A,B"),
    ("partition tiny --access a.npz --qps 1 --call-ms 0,0", "can't be", "not both"),
    ("partition tiny --access a.npz --qps 1 --price gb=x", "can't be read", "gb="),
    ("partition tiny --access a.npz --qps 1 --price disk=1", "disk=1", "gb="),
    ("partition tiny --access a.npz --qps 1 --price gb=0", "costs nothing", "gb="),
    ("partition tiny --access a.npz --qps 1 --bound-ms 3", "within 3 ms", "--bound-ms"),
    ("partition tiny --access a.npz --qps 1 --algorithm front", "front server", "--dense-ms"),
    ("partition tiny --access a.npz --qps 1 --dense-mb 5", "goes with --dense-ms", "--dense-ms"),
    ("partition tiny --access a.npz --qps 1 --front-mb 5", "nothing is known", "--dense-ms"),
    ("partition tiny --access a.npz --qps 1 --profile p.txt", "not JSON", "recsplit profile"),
    ("partition tiny --access a.npz --qps 1 --profile profile.json", "a profile of 'shop'", "recsplit profile"),
    ("partition tiny --access a.npz --qps 1 --was a.npz", "goes with --update", "--update"),
    ("partition tiny --access a.npz --qps 1 --update p.txt", "not JSON", "recsplit partition"),
    ("partition tiny --access a.npz --qps 1 --update p.json", "access profile of its own", "--was"),
    ("partition tiny --access a.npz --qps 1 --update p.json --was law.npz", "not the access profile", "SHA-256"),
    ("partition tiny --access a.npz --qps 1 --update q.json --was a.npz", "partition of 'other'", "recsplit partition"),
    ("partition tiny --access a.npz --qps 1 -o tiny", "is a folder", "give a file"),
]


@pytest.mark.parametrize(("command", "said", "hint"), MISTAKES, ids=[command for command, _, _ in MISTAKES])
def test_mistakes_are_told_in_a_sentence(command: str, said: str, hint: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    code = main(shlex.split(command))
    stdout, stderr = capsys.readouterr()
    assert code == 2 and not stdout and "Traceback" not in stderr and "bug in recsplit" not in stderr
    assert said in stderr and hint in stderr
    assert not hint or "Hint: " in stderr
