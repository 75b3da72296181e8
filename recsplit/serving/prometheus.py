"""A Prometheus beside a server: the machine's own binary, on loopback, with its data in a folder that ends with it."""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from recsplit.errors import InputError, RecsplitError
from recsplit.serving import guard, ports
from recsplit.serving.own_group import OWN_GROUP

BINARY = "prometheus"
#: It writes its head block when it ends; more than this is never needed, and its data go anyway.
_END_S = 5.0
_RETENTION = "1d"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus at `url`. A context manager that ends it and its data on the way out."""

    url: str
    pid: int
    process: subprocess.Popen[bytes] = field(repr=False, compare=False)
    guard: subprocess.Popen[str] = field(repr=False, compare=False)
    folder: Path = field(repr=False, compare=False)

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def ready(self) -> bool:
        """Whether it answers queries."""
        address = self.url.removeprefix("http://")
        try:
            with contextlib.closing(http.client.HTTPConnection(address, timeout=2)) as connection:
                connection.request("GET", "/-/ready")
                return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def put(self, name: str, text: str) -> None:
        """Exchange one of its files, at once."""
        new = self.folder / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self.folder / name)

    def stop(self) -> None:
        """End it, and drop its data. Safe to repeat."""
        try:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.guard.poll() is None:
                self.guard.communicate()  # closes its input, which is its sign to sweep up
            shutil.rmtree(self.folder, ignore_errors=True)


def find() -> Path:
    """The binary on PATH. Raises InputError where there is none."""
    binary = shutil.which(BINARY)
    if binary is None:
        raise InputError(
            "there is no prometheus on PATH", hint="Debian and Ubuntu: apt install prometheus; or unpack a release of prometheus.io"
        )
    return Path(binary)


def start(binary: Path, texts: Mapping[str, str], *, port: int | None = None, ready_timeout_s: float = 30) -> Prometheus:
    """Run it on these files by name, prometheus.yml among them, and return when it answers. A `port` of None is a free one.

    Raises RecsplitError with the end of its log where it doesn't; nothing is left running then, nor after KeyboardInterrupt.
    """
    folder = Path(tempfile.mkdtemp(prefix="recsplit-prometheus-"))
    try:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        address = f"127.0.0.1:{ports.choose('127.0.0.1', {'Prometheus': port})['Prometheus']}"
        prometheus = _start(binary, folder, address)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        _await_ready(prometheus, ready_timeout_s)
    except BaseException:
        prometheus.stop()
        raise
    return prometheus


def _start(binary: Path, folder: Path, address: str) -> Prometheus:
    """Process and guard in sessions of their own, as a server's: a Ctrl-C at the terminal reaches only us."""
    arguments = [
        str(binary),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={_RETENTION}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            arguments, cwd=folder, env=dict(os.environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **OWN_GROUP
        )
    watching = subprocess.Popen([sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE, text=True, **OWN_GROUP)
    assert watching.stdin is not None
    watching.stdin.write(f"{process.pid} {_END_S} {folder}\n")
    watching.stdin.flush()
    return Prometheus(f"http://{address}", process.pid, process, watching, folder)


def _await_ready(prometheus: Prometheus, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not prometheus.ready():
        ended = prometheus.process.poll() is not None
        if ended or time.monotonic() > deadline:
            log = (prometheus.folder / "log").read_text(errors="replace")
            what = "Prometheus ended before it answered" if ended else f"Prometheus didn't answer within {timeout_s:g} s"
            raise RecsplitError(what, hint="its log is below", detail="\n".join(log.splitlines()[-20:]))
        time.sleep(0.05)
