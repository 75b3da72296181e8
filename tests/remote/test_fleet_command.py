"""`recsplit serve --fleet` as a process, and how many servers it runs."""

import dataclasses
import json
import os
import re
import shlex
import signal
from pathlib import Path

import pytest

from recsplit.commands.serve_fleet import read_replicas
from recsplit.configs.fleet import Asking
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from recsplit.serving.fleet.placement import Address, Part, parts, write_front, write_shard
from recsplit.serving.upkeep import watch
from tests.conftest import Run
from tests.remote import engine_fleet, sharded
from tests.serving import handmade
from tests.serving.conftest import processes
from tests.serving.test_command import read_until, start


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fleet") / "a shop"
    sharded.write(path)
    return path


def plan(**replicas: int) -> Plan:
    base_plan = sharded.make_plan(("own", "own"), bags=True)
    shards = tuple(dataclasses.replace(shard, replicas=replicas.get(f"shard_{number}", 1)) for number, shard in enumerate(base_plan.shards))
    return dataclasses.replace(base_plan, shards=shards)


def test_a_server_that_dies_is_started_again_and_ctrl_c_ends_all_of_them(folder: Path, tmp_path: Path) -> None:
    with start(folder, "--fleet", "--replicas", "front=1,0=2", "--json", "--log", tmp_path / "logs") as process:
        assert process.stdout is not None and process.stderr is not None
        shown = json.loads(process.stdout.readline())
        assert [(item["part"], item["replica"], item["state"]) for item in shown["servers"]] == [
            ("0", 0, "READY"), ("0", 1, "READY"), ("1", 0, "READY"), ("front", 0, "READY"),
        ]  # fmt: skip
        assert shown["parts"]["0"] == {"wanted": 1, "running": 2}
        victim = shown["servers"][1]
        os.kill(victim["pid"], signal.SIGKILL)
        stderr_text = ""
        for line in process.stderr:
            stderr_text += line
            if "is back" in line:
                break
        assert "shard 0 replica 1 ended by itself, and is started again" in stderr_text
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "nothing is left running" in errors
    for item in shown["servers"]:
        assert not processes(f"--http-port={item['http_url'].rpartition(':')[2]}")
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        "front_0.log", "shard_0_0.log", "shard_0_1.log", "shard_1_0.log",
    ]  # fmt: skip


def test_an_instance_whose_process_died_is_replaced(folder: Path) -> None:
    with start(folder, "--fleet", "--json") as process:
        assert process.stdout is not None and process.stderr is not None
        servers = {(each["part"], each["replica"]): each for each in json.loads(process.stdout.readline())["servers"]}
        private = Path(f"/proc/{servers['1', 0]['pid']}/cwd").resolve().name
        (victim,) = watch.processes(private)["shop_embedding_1", 1]
        os.kill(victim, signal.SIGKILL)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "were replaced in" in line:
                break
        assert "shard 1 replica 0: An instance of 'shop_embedding_1' has died" in "".join(lines)
        (successor,) = watch.processes(private)["shop_embedding_1", 1]
        assert successor != victim
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_server_that_dies_again_and_again_ends_the_fleet_with_its_log(folder: Path) -> None:
    with start(folder, "--fleet", "--json") as process:
        assert process.stdout is not None and process.stderr is not None
        port = json.loads(process.stdout.readline())["servers"][0]["http_url"].rpartition(":")[2]
        stderr_text = ""
        for _ in range(3):
            (pid,) = processes(f"--http-port={port}")
            os.kill(pid, signal.SIGKILL)
            for line in process.stderr:
                stderr_text += line
                if "is back" in line:
                    break
        process.wait(120)
    assert process.returncode == 1
    assert "Error: shard 0 replica 0: the Triton server ended by itself (signal SIGKILL)" in stderr_text
    assert stderr_text.count("is started again") == 2
    assert not processes("recsplit-fleet-")


def test_without_json_it_shows_every_server_and_a_request_that_works(folder: Path) -> None:
    with start(folder, "--fleet") as process:
        text = read_until(process, "Ctrl-C stops all servers")
        for name in ("front 0", "shard 0 replica 0", "shard 1 replica 0"):
            assert re.search(rf"^{name} +READY +127\.0\.0\.1:\d+ ", text, re.MULTILINE)
        assert "curl http://127.0.0.1:" in text
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def test_with_room_for_more_it_shows_a_line_of_control_that_can_be_run(folder: Path) -> None:
    with start(folder, "--fleet", "--most", "0=2") as process:
        lines = read_until(process, "Ctrl-C stops all servers").splitlines()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    command = shlex.split(next(line for line in lines if line.startswith("  recsplit control ")))
    assert command[:4] == ["recsplit", "control", str(folder), "--fleet"]
    assert command[5::2] == ["--metrics-url"] * 3
    assert all(re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url) for url in command[6::2])


def test_a_shard_that_can_t_load_ends_the_start_with_its_name_and_leaves_nothing(tmp_path: Path, run_recsplit: Run) -> None:
    sharded.write(tmp_path)
    (tmp_path / "shop_embedding_1/1/bags.onnx").write_bytes(b"no model")
    done = run_recsplit("serve", tmp_path, "--fleet")
    assert done.returncode == 1
    assert "shard 1 replica 0: Triton did not load model 'shop_embedding_1'" in done.stderr
    assert not processes("recsplit-fleet-")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--fleet", "--replicas", "2=1"], "the fleet has no part '2'", "0, 1"),
        (["--fleet", "--replicas", "front=0"], "0 servers of 'front' can't serve", "at least one"),
        (["--fleet", "--replicas", "front"], "'front' is not PART=N", "front=2"),
        (["--fleet", "--docker"], "--fleet takes free ports", "--json"),
        (["--replicas", "front=2"], "--replicas goes with --fleet", "--fleet"),
    ],
)
def test_what_it_can_t_do_is_refused_before_anything_starts(
    folder: Path, arguments: list[str], message: str, hint: str, run_here: Run
) -> None:
    done = run_here("serve", folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert hint in done.stderr


def test_a_build_without_shards_is_no_fleet(repository: Path, run_here: Run) -> None:
    done = run_here("serve", repository / "model_repository", "--fleet")
    assert done.returncode == 2
    assert "not partitioned" in done.stderr and "recsplit build --partition" in done.stderr


def test_replicas_are_the_plan_s_as_far_as_they_fit_and_what_was_asked_for_as_it_is() -> None:
    assert parts(plan(), {}, room=4) == (Part("0", 1, 1), Part("1", 1, 1), Part("front", 1, 1))
    assert [part.count for part in parts(plan(shard_0=9), {}, room=4)] == [2, 1, 1]
    assert [part.count for part in parts(plan(shard_0=9), {"0": 9}, room=4)] == [9, 1, 1]
    assert [part.count for part in parts(plan(shard_0=9, shard_1=9), {"front": 4}, room=4)] == [1, 1, 4]


def test_a_shard_in_the_front_has_no_servers_of_its_own() -> None:
    mixed_plan = sharded.make_plan(("front", "own"), bags=True)
    assert [part.name for part in parts(mixed_plan, {})] == ["1", "front"]
    with pytest.raises(InputError, match="shard 0 is placed in the front"):
        parts(mixed_plan, {"0": 2})
    with pytest.raises(InputError, match="every shard is placed in the front"):
        parts(sharded.make_plan(("front", "front"), bags=True), {})


def test_replicas_are_read_from_the_command_line() -> None:
    assert read_replicas("front=2, 0=3") == {"front": 2, "0": 3}
    assert read_replicas(None) == {}
    with pytest.raises(InputError, match="is not PART=N"):
        read_replicas("0=1,0=2")


def test_run_time_repositories_hold_links_and_no_copies(tmp_path: Path) -> None:
    mixed_plan = sharded.write(tmp_path / "built", places=("front", "own"))
    write_front(tmp_path / "built", mixed_plan, {"1": [Address("127.0.0.1:2", "127.0.0.1:1")]}, tmp_path / "front", Asking())
    write_shard(tmp_path / "built", mixed_plan, 1, tmp_path / "shard")
    large = [path for folder in ("front", "shard") for path in (tmp_path / folder).rglob("*") if path.is_file() and not path.is_symlink()]
    assert {path.name for path in large} == {"config.pbtxt", "build.txt"}
    configs = {path.parent.name: handmade.as_json(path.read_text()) for path in (tmp_path / "front").glob("*/config.pbtxt")}
    assert {name: config.get("backend") for name, config in configs.items()} == {
        "shop": None, "shop_dense": "onnxruntime", "shop_embedding": "onnxruntime", "shop_embedding_0": "onnxruntime",
        "shop_embedding_1": "remote",
    }  # fmt: skip
    bags = handmade.as_json((tmp_path / "shard/shop_embedding_1/config.pbtxt").read_text())
    assert [tensor["name"] for tensor in bags["input"]] == ["rows_0", "offsets_0"]
    assert "max_batch_size" not in bags


def test_a_front_of_the_engine_is_one_model_and_nothing_is_copied(tmp_path: Path) -> None:
    if unavailable() is not None:
        pytest.skip(f"no engine here: {unavailable()}")
    repository = engine_fleet.write(tmp_path)
    addresses = {part: [Address("127.0.0.1:2", "127.0.0.1:1")] for part in ("0", "1")}
    write_front(repository, find(repository).plan, addresses, tmp_path / "front", Asking(timeout_ms=70))
    files = sorted(str(path.relative_to(tmp_path / "front")) for path in (tmp_path / "front").rglob("*") if path.is_file())
    assert files == ["shop/1/build.txt", "shop/1/engine.json", "shop/config.pbtxt"]
    recipe = json.loads((tmp_path / "front/shop/1/engine.json").read_text())["front"]
    assert (recipe["before"]["models"], recipe["after"]["models"]) == (["shop_embedding"], ["shop_dense"])
    assert [shard["replicas"] for shard in recipe["remote"]["shards"]] == [["127.0.0.1:2"]] * 2
    assert recipe["remote"]["timeout_ms"] == 70
