"""Thousands of changes of instance counts, four ways: `python -m recsplit_perf.benchmarks.instance_changes`.

Two models whose backend does nothing (noop_backend.cc, so that a change takes a millisecond) are asked without pause while their
counts change back to back, both at once: in place with Triton's rate limiter on (as recsplit did before), in place with it off (as it
does now), by reloads, and more by reloads and fewer in place. What is looked for is a server that dies, a change or a request that
hangs, a request that fails (docs/decisions/0012).
"""

import json
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click
import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from recsplit.commands.output import progress, show_table
from recsplit.disk.files import whole_file
from recsplit.serving import ports, triton
from recsplit_perf.machine import provenance

MODELS = ("first", "second")
Reloads = Literal["never", "always", "more"]
WAYS: dict[str, tuple[str, Reloads]] = {
    "in place, rate limiter on": ("--rate-limit=execution_count", "never"),
    "in place, rate limiter off": ("--rate-limit=off", "never"),
    "reloads": ("--rate-limit=off", "always"),
    "reloads for more, in place for fewer": ("--rate-limit=off", "more"),
}
MOST, CLIENTS, AT_ONCE = 4, 4, 16
#: A request or a change without an answer for so long hangs.
HUNG_S = 20.0
_SOURCE = Path(__file__).with_name("noop_backend.cc")


@dataclass
class Counted:
    """What one way came to. `died`: the signal that ended the server, None where none did."""

    changes: int = 0
    requests: int = 0
    failed: int = 0
    hung: int = 0
    slowest_change_s: float = 0.0
    seconds: float = 0.0
    died: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


@click.command()
@click.option("--changes", type=click.IntRange(1), default=3000, show_default=True, help="Of each way, both models together.")
@click.option("--busy", type=click.IntRange(0), default=1, show_default=True, help="Busy loops beside it.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(changes: int, busy: int, output: Path | None) -> None:
    """Change instance counts thousands of times under load, and see whether the server lives."""
    origin = provenance()
    rows = []
    with tempfile.TemporaryDirectory(prefix="recsplit-changes-") as name, busy_loops(busy):
        library = compiled(Path(name))
        for way, (limiter, when) in WAYS.items():
            with progress(f"{changes} changes: {way}"):
                counted = tried(Path(name) / way.replace(" ", "_"), library, limiter, when=when, changes=changes)
            rows.append({"way": way, **{key: value for key, value in vars(counted).items() if key != "lock"}})
    show_table(list(rows[0]), [list(row.values()) for row in rows])
    if output is not None:
        with whole_file(output) as file:
            settings = {"changes": changes, "busy": busy, "clients": CLIENTS, "requests_at_once": AT_ONCE, "most": MOST}
            result = {"benchmark": "instance_changes", **origin, "settings": settings, "ways": rows}
            file.write((json.dumps(result, indent=1) + "\n").encode())


def compiled(folder: Path) -> Path:
    """The backend as a shared library. Raises ClickException without a C++ compiler."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise click.ClickException("no C++ compiler is in PATH (Debian: apt install g++)")
    library = folder / "libtriton_noop.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
    return library


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many processes that compute without end."""
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def config(model: str, count: int, change: int) -> dict[str, Any]:
    """A model's config, as Triton takes it in JSON; another `change` makes it a reload."""
    return {
        "name": model,
        "backend": "noop",
        "max_batch_size": 1,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
        "dynamic_batching": {},
        "instance_group": [{"count": count, "kind": "KIND_CPU"}],
        "parameters": {"change": {"string_value": str(change)}},
    }


@contextmanager
def started(folder: Path, library: Path, limiter: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Triton with the two models, and its gRPC address. Raises ClickException where it doesn't get ready."""
    installation = triton.find()
    backend = folder / "backends/noop"
    backend.mkdir(parents=True)
    shutil.copy(library, backend)
    for model in MODELS:
        (folder / "models" / model / "1").mkdir(parents=True)
        (folder / "models" / model / "config.pbtxt").write_text(f'name: "{model}" backend: "noop" max_batch_size: 1')
    chosen = ports.choose("127.0.0.1", {"HTTP": None, "gRPC": None, "metrics": None})
    line = [
        str(installation.binary),
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        *(f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")),
        *(f"--{name.lower()}-port={port}" for name, port in chosen.items()),
        limiter,
    ]
    address = f"127.0.0.1:{chosen['gRPC']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(line, env=triton.environment(installation), cwd=folder, stdout=log, stderr=log)
    try:
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            deadline, pause = time.monotonic() + 60, threading.Event()
            while not _ready(stub):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise click.ClickException(f"Triton did not start: {folder / 'log'}")
                pause.wait(0.1)
            for model in MODELS:
                _load(stub, model, 1, 0)
        yield process, address
    finally:
        process.kill()
        process.wait()


def tried(folder: Path, library: Path, limiter: str, *, when: Reloads, changes: int) -> Counted:
    """So many changes under load, or as many as the server lived for."""
    counted, stop = Counted(), threading.Event()
    with started(folder, library, limiter) as (process, address):
        askers = [threading.Thread(target=_ask, args=(address, MODELS[number % 2], stop, counted)) for number in range(CLIENTS)]
        changers = [
            threading.Thread(target=_change, args=(address, model, changes // len(MODELS), counted), kwargs={"when": when})
            for model in MODELS
        ]
        begun = time.monotonic()
        for thread in (*askers, *changers):
            thread.start()
        for thread in changers:
            thread.join()
        counted.seconds = round(time.monotonic() - begun, 1)
        stop.set()
        for thread in askers:
            thread.join()
        code = process.poll()
        counted.died = None if code is None else signal.Signals(-code).name if code < 0 else f"exit status {code}"
    counted.slowest_change_s = round(counted.slowest_change_s, 3)
    return counted


def _ready(stub: Any) -> bool:
    try:
        return bool(stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=1).ready)
    except grpc.RpcError:
        return False


def _load(stub: Any, model: str, count: int, change: int) -> None:
    request = service_pb2.RepositoryModelLoadRequest(model_name=model)
    request.parameters["config"].string_param = json.dumps(config(model, count, change))
    stub.RepositoryModelLoad(request, timeout=HUNG_S)


def _ask(address: str, model: str, stop: threading.Event, counted: Counted) -> None:
    """Ask 16 at a time until told to stop, or until the server is gone."""
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[bytes(4)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while not stop.is_set():
            codes = [call.code() for call in [stub.ModelInfer.future(request, timeout=HUNG_S) for _ in range(AT_ONCE)]]
            with counted.lock:
                counted.requests += AT_ONCE
                counted.hung += codes.count(grpc.StatusCode.DEADLINE_EXCEEDED)
                counted.failed += sum(code not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED) for code in codes)
            if grpc.StatusCode.UNAVAILABLE in codes:
                return


def _change(address: str, model: str, changes: int, counted: Counted, *, when: Reloads) -> None:
    """Give a model one count after the other, until one fails."""
    rng, present, change = random.Random(model), 1, 0
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(changes):
            wanted_count = rng.choice([count for count in range(1, MOST + 1) if count != present])
            change += when == "always" or (when == "more" and wanted_count > present)
            begun = time.monotonic()
            try:
                _load(stub, model, wanted_count, change)
            except grpc.RpcError as error:
                with counted.lock:
                    counted.hung += error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                    counted.failed += error.code() != grpc.StatusCode.DEADLINE_EXCEEDED
                return
            present = wanted_count
            with counted.lock:
                counted.changes += 1
                counted.slowest_change_s = max(counted.slowest_change_s, time.monotonic() - begun)


if __name__ == "__main__":
    command()
