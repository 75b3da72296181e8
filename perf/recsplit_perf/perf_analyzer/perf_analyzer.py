"""NVIDIA's perf_analyzer: find it or fetch it, run it, read its report.

Its own wheel needs glibc 2.38, and older ones hold a placeholder. The wheel of tritonclient 2.51.0 (the server's own
version) brings a binary that runs on any Linux; two libraries that it is linked to come from nvidia-pytriton. So it is
unpacked once, with a script that starts it, into a folder of the user's cache.
"""

import csv
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recsplit.errors import RecsplitError
from recsplit.serving import triton

VERSION = "2.51.0"

#: Sonames that the binary asks for, and the files of nvidia_pytriton.libs that serve.
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}

#: From this concurrency on, perf_analyzer's asynchronous mode is used: the synchronous one has a thread for each request.
ASYNC_FROM = 16

#: Time to get ready in: before it sends anything, it builds requests from every row of the data, concurrency times.
PREPARATION_S = 180.0

#: perf_analyzer takes this many windows and reports them together.
WINDOWS = 3


@dataclass(frozen=True)
class Measurement:
    """One line of perf_analyzer's report. Latencies are the client's; queue and compute are the server's averages.

    `concurrency` is 0 where requests were sent at a rate.

    For an ensemble, compute is the sum over its steps, and queue is its own: next to nothing, as requests wait at the steps.
    """

    batch: int
    concurrency: int
    rows_per_s: float
    avg_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    queue_ms: float
    compute_ms: float


def cache_folder() -> Path:
    """Where the binary is kept: $XDG_CACHE_HOME or ~/.cache, then recsplit/perf_analyzer-<version>."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsplit" / f"perf_analyzer-{VERSION}"


def find() -> Path | None:
    """A perf_analyzer that starts: the one on the PATH, else the one in the cache; None where there is none."""
    on_path = shutil.which("perf_analyzer")
    candidates = [Path(on_path)] if on_path else []
    return next((path for path in [*candidates, cache_folder() / "perf_analyzer"] if _starts(path) == ""), None)


def find_or_install(progress: Callable[[str], AbstractContextManager[object]]) -> Path:
    """A perf_analyzer that starts, fetched from the package registry where there is none yet; `progress` shows the wait.

    Raises MissingExtra without nvidia-pytriton, RecsplitError where it can't be fetched or doesn't start.
    """
    executable = find()
    if executable is None:
        with progress(f"Fetching perf_analyzer {VERSION} (14 MB, once)"):
            executable = install(cache_folder())
    return executable


def install(folder: Path) -> Path:
    """Put perf_analyzer into `folder`, whole or not at all. Raises MissingExtra and RecsplitError as find_or_install does."""
    libraries = triton.find().libraries
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".installing-") as name:
        fresh, wheel = Path(name) / "perf_analyzer", Path(name) / "wheel"
        _fetch(wheel)
        (fresh / "lib").mkdir(parents=True)
        shutil.move(wheel / "bin" / "perf_analyzer", fresh / "perf_analyzer.bin")
        for soname, pattern in LIBRARIES.items():
            shutil.copy(next(libraries.glob(pattern)), fresh / "lib" / soname)  # a copy outlives the virtual environment
        script = fresh / "perf_analyzer"
        script.write_text(
            f"#!/bin/sh\n# perf_analyzer of tritonclient {VERSION}, with the libraries it needs; written by recsplit.\n"
            'here=$(dirname "$(readlink -f "$0")")\n'
            'LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/perf_analyzer.bin" "$@"\n'
        )
        script.chmod(0o755)
        if problem := _starts(script):
            raise RecsplitError("perf_analyzer does not start on this machine", hint="put one that does on the PATH", detail=problem)
        shutil.rmtree(folder, ignore_errors=True)  # one that no longer starts
        fresh.rename(folder)
    return folder / "perf_analyzer"


@dataclass(frozen=True)
class Rate:
    """Requests per second, evenly spaced or as a Poisson process; latencies then count from when a request was really sent."""

    requests_per_s: float
    distribution: Literal["constant", "poisson"] = "constant"


def command_line(
    analyzer: Path | str,
    *,
    url: str,
    model: str,
    batch: int,
    load: int | Rate,
    data: Path | Literal["zero"],
    seconds: float,
    protocol: Literal["grpc", "http"] = "grpc",
) -> list[str]:
    """Arguments that measure one batch size for about `seconds`, under one `load`: requests on their way at all times, or a rate.

    perf_analyzer wants three windows in a row that agree; here any three do, because what varies between runs is what
    repeated runs are for, and a run that "failed to obtain stable measurement" reports nothing at all.
    """
    window_ms = max(round(1000 * seconds / WINDOWS), 1)
    if isinstance(load, Rate):
        shape = ["--async", f"--request-rate-range={load.requests_per_s:g}", f"--request-distribution={load.distribution}"]
    else:
        shape = ["--async" if load >= ASYNC_FROM else "--sync", f"--concurrency-range={load}"]
    return [
        *(str(analyzer), "-m", model, "-u", url, "-i", protocol, "-b", str(batch)),
        *(*shape, f"--input-data={data}"),
        *(f"--measurement-interval={window_ms}", "--stability-percentage=999"),
    ]


def measure(
    analyzer: Path,
    *,
    url: str,
    model: str,
    batch: int,
    load: int | Rate,
    data: Path | Literal["zero"],
    seconds: float,
    protocol: Literal["grpc", "http"] = "grpc",
) -> Measurement:
    """Measure one batch size under one load. Raises RecsplitError, with what perf_analyzer printed, where it fails."""
    with tempfile.TemporaryDirectory(prefix="recsplit-perf-") as folder:
        report = Path(folder) / "report.csv"
        command = command_line(analyzer, url=url, model=model, batch=batch, load=load, data=data, seconds=seconds, protocol=protocol)
        run(command, "-f", str(report), "--verbose-csv", timeout_s=PREPARATION_S + 5 * seconds)
        return parse(report.read_text(), batch)[0]


def run(command: list[str], *more: str, timeout_s: float) -> str:
    """What perf_analyzer prints. Raises RecsplitError where it fails or takes longer than `timeout_s`."""
    try:
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise RecsplitError(
            f"perf_analyzer did not end within {timeout_s:.0f} s", hint="does the model still answer?", detail=shlex.join(command)
        ) from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        # The last line names the reason, except that one for each thread may follow "Failed to maintain ... load."
        reason = lines[-1].removeprefix("error: ") if lines else f"exit status {done.returncode}"
        raise RecsplitError(
            f"perf_analyzer failed: {reason}",
            hint=f"the command was: {shlex.join(command)}",
            detail=f"{done.stdout.rstrip()}\n{done.stderr.rstrip()}".strip(),
        )
    return done.stdout


def parse(report: str, batch: int) -> list[Measurement]:
    """The lines of a report that perf_analyzer wrote with `-f FILE --verbose-csv`. Raises RecsplitError where there are none."""
    measurements = []
    for line in csv.DictReader(report.splitlines()):
        try:
            value = {name: float(text) for name, text in line.items()}
            measurements.append(
                Measurement(
                    batch=batch,
                    concurrency=int(value.get("Concurrency", 0)),
                    rows_per_s=value["Inferences/Second"],
                    avg_ms=value["Avg latency"] / 1000,
                    p50_ms=value["p50 latency"] / 1000,
                    p90_ms=value["p90 latency"] / 1000,
                    p95_ms=value["p95 latency"] / 1000,
                    p99_ms=value["p99 latency"] / 1000,
                    queue_ms=value["Server Queue"] / 1000,
                    compute_ms=sum(value[f"Server Compute {part}"] for part in ("Input", "Infer", "Output")) / 1000,
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RecsplitError(f"perf_analyzer's report can't be read: {error}", hint="use version 2.51", detail=report) from error
    if not measurements:
        raise RecsplitError("perf_analyzer's report holds no measurement", hint="measure for longer", detail=report)
    return measurements


def _fetch(folder: Path) -> None:
    """The files of tritonclient's wheel, in `folder`."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--target", str(folder), f"tritonclient=={VERSION}"], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (folder / "bin" / "perf_analyzer").is_file():
        raise RecsplitError(
            "perf_analyzer could not be fetched",
            hint="put perf_analyzer on the PATH, or check that pip can install packages here",
            detail=done.stderr or "the wheel of tritonclient for this machine has no bin/perf_analyzer",
        )


def _starts(path: Path) -> str:
    """Why this perf_analyzer does not start; "" where it does."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if "Perf Analyzer Version" in done.stdout + done.stderr:
        return ""
    return (done.stderr + done.stdout).strip() or f"exit status {done.returncode}"
