"""Profiles of a real build, and the processes and the neighbour that they are measured with."""

import json
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from recsplit.capacity.profile import Profile, from_json
from recsplit.errors import RecsplitError
from recsplit.repository.find import find
from recsplit.serving import Server
from recsplit_perf.processes import kernel
from recsplit_perf.profile import profile_points, profiling
from recsplit_perf.profile.neighbour import neighbour
from recsplit_perf.traffic import wire as wire_module
from recsplit_perf.traffic.queries import request
from recsplit_perf.traffic.wire import Wire
from tests.conftest import Run
from tests.waiting import until


@pytest.fixture(scope="module")
def profile(tiny: Path) -> Profile:
    return profiling.measure(find(tiny), seconds=3, rounds=2)


def test_every_size_up_to_the_largest_is_measured() -> None:
    assert profile_points.sizes(1) == [1]
    assert profile_points.sizes(64) == [1, 2, 4, 8, 16, 32, 64]
    assert profile_points.sizes(100) == [1, 2, 4, 8, 16, 32, 64, 100]


def test_a_profile_has_every_curve(profile: Profile) -> None:
    curves = [profile.whole, *(curve for part in profile.parts for curve in (part.alone, part.contended, part.client))]
    for curve in curves:
        assert curve is not None or len(os.sched_getaffinity(0)) == 1
        if curve is not None:
            assert curve.x == (1, 2, 4, 8, 16, 32, 64)
            assert min(map(len, curve.samples_ms)) >= 2 * profiling.FEWEST
    assert [part.role for part in profile.parts] == ["embedding", "dense"]
    assert profile.provenance["measured"]["rounds"] == 2
    assert profile.provenance["commit"]


def test_a_client_waits_longer_than_the_instance_works(profile: Profile) -> None:
    for part in profile.parts:
        assert all(seen > busy for seen, busy in zip(part.client.median_ms, part.alone.median_ms, strict=True))
    # Measured at other moments than the whole: what else the machine does may make the parts the slower ones.
    alone_ms = sum(part.alone.median_ms[0] for part in profile.parts)
    assert profile.overhead_ms == pytest.approx(max(profile.whole.median_ms[0] - alone_ms, 0))


def test_sizes_on_the_wire_are_those_of_the_tensors(profile: Profile) -> None:
    """4 dense features in FP32, 7 ids in INT64; an answer in FP32 and two INT64 marks; names and shapes come on top."""
    assert 4 * 4 + 7 * 8 < profile.request_bytes_per_row < 4 * 4 + 7 * 8 + 4
    assert 4 + 2 * 8 < profile.response_bytes_per_row < 4 + 2 * 8 + 4
    assert profile.gathers_per_row == 7


def test_an_instance_computes_on_no_more_cores_than_it_has_threads(profile: Profile) -> None:
    """On fewer, for less than all of the time that it is busy: Triton moves tensors for the rest, and others may have the core."""
    assert all(0 < part.cores < part.threads + 0.5 for part in profile.parts)


def test_every_process_of_the_server_is_weighed(profile: Profile) -> None:
    assert all(part.pss_bytes > 10e6 for part in profile.parts)
    assert profile.server_pss_bytes > 10e6
    assert all(part.load_s > 0 for part in profile.parts)


@pytest.fixture
def on_a_server_that_runs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the server that the tests share, and start none."""
    monkeypatch.setattr(profiling, "serve", lambda *_, **__: nullcontext(server))


@pytest.mark.usefixtures("on_a_server_that_runs")
def test_a_measurement_that_is_broken_off_keeps_what_it_has(tiny: Path) -> None:
    steps = 0

    def ctrl_c(_: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt

    partial_profile = profiling.measure(find(tiny), seconds=3, rounds=2, advance=ctrl_c)
    assert partial_profile.whole.x == partial_profile.parts[0].alone.x == (1, 2, 4)
    assert partial_profile.provenance["measured"]["rounds"] == 0


@pytest.mark.usefixtures("on_a_server_that_runs")
def test_broken_off_before_anything_was_measured_it_is_an_interruption(tiny: Path) -> None:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profiling.measure(find(tiny), seconds=3, rounds=2, started=ctrl_c)


def test_the_command_writes_a_profile_that_can_be_read(
    run_here: Run, tiny: Path, profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profile.json"
    done = run_here("profile", tiny, "--seconds", "0.2", "--rounds", "1", "-o", path, "--json")
    assert done.returncode == 0, done.stderr
    assert from_json(done.stdout) == from_json(path.read_text())
    assert json.loads(done.stdout)["model"] == "tiny"
    monkeypatch.setattr(profiling, "measure", lambda *_, **__: profile)
    shown = run_here("profile", tiny, "--seconds", "0.2", "--rounds", "1", "--workload", "perf/scenarios/elasticrec.toml")
    assert shown.returncode == 0, shown.stderr
    assert "tiny_embedding   contended" in shown.stdout
    assert "An empty call takes" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "other"], "holds no ensemble 'other'"),
        (["-o", "/nowhere/profile.json"], "the folder /nowhere doesn't exist"),
        (["--workload", "/nowhere.toml"], "/nowhere.toml can't be read"),
        (["--seconds", "0"], "0"),
    ],
)
def test_a_bad_option_is_refused_before_anything_starts(run_here: Run, tiny: Path, arguments: list[str], message: str) -> None:
    done = run_here("profile", tiny, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Measuring" not in done.stderr


def test_another_client_is_noticed(server: Server, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = find(tiny).plan
    inputs = {tensor.name: np.zeros((1, *tensor.dims), dtype="int64") for tensor in plan.embedding.inputs}
    message = request(plan.embedding.name, plan.embedding.inputs, inputs)
    with Wire(server.grpc_url) as wire:
        busy_ms, latency_ms = wire.timed(plan.embedding.name, [message], 5)
        assert len(busy_ms) == len(latency_ms) == 5
        monkeypatch.setattr(wire_module, "_SETTLED_S", 0.1)  # with another client the server never comes to rest
        stop = threading.Event()

        def other_client() -> None:
            with Wire(server.grpc_url) as other:
                while not stop.is_set():
                    other.ask(message)

        thread = threading.Thread(target=other_client)
        thread.start()
        try:
            with pytest.raises(RecsplitError, match="batches for one request"):
                wire.timed(plan.embedding.name, [message], 2000)
        finally:
            stop.set()
            thread.join()


def test_the_servers_words_are_kept(server: Server) -> None:
    with Wire(server.grpc_url) as wire, pytest.raises(RecsplitError, match="unknown model: 'nobody'"):
        wire.ask(request("nobody", [], {}))


def state(pid: int) -> str:
    """What a process does, in the kernel's letter: R runs or could, S waits."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_neighbour_works_when_told_and_ends_with_its_owner(tiny: Path, tmp_path: Path) -> None:
    plan = find(tiny).plan
    model = tiny / plan.embedding.name / "1" / "model.onnx"
    inputs = {tensor.name: np.zeros((4, *tensor.dims), dtype="int64") for tensor in plan.embedding.inputs}
    with neighbour(model, inputs, max(os.sched_getaffinity(0)), 60, tmp_path) as neighbour_process:
        pid = neighbour_process._process.pid
        assert os.sched_getaffinity(pid) == {max(os.sched_getaffinity(0))}
        before = kernel.cpu_s([pid])
        until(lambda: state(pid) == "S", "a neighbour that waits for a word")
        with neighbour_process.busy():
            until(lambda: kernel.cpu_s([pid]) - before > 0.2, "work of the neighbour")
        until(lambda: state(pid) == "S", "rest after work")
    assert neighbour_process._process.poll() is not None


def test_a_process_is_weighed_timed_and_pinned() -> None:
    script = "import sys\nblock = b'x' * 50_000_000\nprint('ready', flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        assert list(kernel.members(process.pid)) == [process.pid]
        assert script in kernel.members(process.pid)[process.pid]
        assert 50e6 < kernel.pss_bytes(process.pid) < 100e6
        assert kernel.cpu_s([process.pid]) > 0
        core = min(os.sched_getaffinity(0))
        kernel.pin([process.pid], {core})
        assert os.sched_getaffinity(process.pid) == {core}
        process.stdin.close()
    assert kernel.pss_bytes(process.pid) == 0
    assert kernel.cpu_s([process.pid]) == 0
