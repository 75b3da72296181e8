"""One tritonserver process: started, waited for, watched, and ended without a trace."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from recsplit.errors import RecsplitError
from recsplit.rendering.notebook import html_table
from recsplit.serving import command_line, guard, logs, notes, open_files, ports, triton
from recsplit.serving import control_key as keys
from recsplit.serving.endpoint import Endpoint
from recsplit.serving.own_group import OWN_GROUP
from recsplit.serving.repository import models_to_load

#: How often who waits for a server's end looks at it.
LOOK_S = 0.5
#: With nothing loaded any more, Triton has only to hand the last answers to the network.
FLUSH_S = 0.5
#: With arguments of the user's it may have files to write (a trace, a log), which it does last of all.
WRITE_S = 10.0
#: Where models are left (they were loading still, or did not let go in time), their stubs get this long to end.
GRACE_S = 2.0


@dataclass
class Running:
    """What ends a server: its process and guard, and the private folder by whose name all that is its own is known."""

    process: subprocess.Popen[bytes]
    guard: subprocess.Popen[str]
    folder: Path
    exit_timeout_s: int
    log: logs.Log
    endpoint: Endpoint
    flush_s: float
    stopping: threading.Event = field(default_factory=threading.Event)
    failed: bool = False

    def end(self) -> None:
        """Ask the server to end, kill it when it doesn't (at once on a second Ctrl-C), and sweep up."""
        self.stopping.set()
        try:
            if self.process.poll() is None:
                drained = self.endpoint.drain(self.exit_timeout_s)
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(self.flush_s if drained else GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.guard.communicate()  # closes its input, which is its sign to sweep up
            if self.guard.returncode:
                guard.sweep(self.folder)


@dataclass(frozen=True)
class Server:
    """A running Triton. URLs as tritonclient takes them ("127.0.0.1:8000"); metrics_url with its scheme and path.

    A context manager that stops the server on the way out. A log that the caller did not name is removed when the
    server ends well.
    """

    http_url: str
    grpc_url: str
    metrics_url: str
    log: Path
    pid: int
    models: tuple[str, ...]
    running: Running = field(repr=False, compare=False)

    @property
    def control_key(self) -> str | None:
        """What opens its model control; None where that is open to all."""
        return self.running.endpoint.headers.get(keys.NAME)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def _repr_html_(self) -> str:
        rows = [
            ("models", ", ".join(self.models)),
            ("HTTP", self.http_url),
            ("gRPC", self.grpc_url),
            ("metrics", self.metrics_url),
            ("log", self.log),
        ]
        return html_table("a Triton server on this machine", ("", ""), rows)

    def ports(self) -> tuple[int, int, int]:
        """The ports of HTTP, gRPC and metrics."""
        http, grpc, metrics = (
            int(url.removesuffix("/metrics").rpartition(":")[2]) for url in (self.http_url, self.grpc_url, self.metrics_url)
        )
        return http, grpc, metrics

    def await_ready(self, timeout_s: float) -> None:
        """Return when every model is loaded. Raises RecsplitError, with the server ended, where it ends by itself or takes longer."""
        try:
            _await_ready(self, timeout_s)
            keys.hide_once_read(self.pid, self.running.endpoint.headers, self.running.log)
        except BaseException as error:
            self.running.end()
            if not isinstance(error, RecsplitError):
                self.running.log.discard()
            raise

    def ready(self) -> bool:
        """Whether the server answers, and has loaded every model it was asked to load."""
        return self.running.process.poll() is None and self.running.endpoint.ready()

    def states(self) -> dict[str, str]:
        """State of every model in the repository, in Triton's words; "" for one that was never loaded."""
        return self.running.endpoint.states()

    def wait(self, look: Callable[[], None] = lambda: None) -> None:
        """Block until the server has ended; `look` is called every half second meanwhile.

        Raises RecsplitError, with the end of its log, if nobody stopped it, and what `look` raises.
        """
        code = None
        while code is None:
            try:
                code = self.running.process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                look()
        if not self.running.stopping.is_set():
            self.running.failed = True
            self.running.end()
            raise self.running.log.failure(f"the Triton server ended by itself ({_ending(code)})")

    def stop(self) -> None:
        """End the server; requests in flight are answered first, for as long as the exit timeout lasts. Safe to repeat."""
        running = self.running
        running.failed |= running.process.poll() is not None and not running.stopping.is_set()
        running.end()
        if not running.failed:
            running.log.discard()


def serve(
    repository: str | os.PathLike[str],
    *,
    models: Sequence[str] = (),
    http_port: int | None = None,
    grpc_port: int | None = None,
    metrics_port: int | None = None,
    host: str = "127.0.0.1",
    log: Path | None = None,
    ready_timeout_s: float = 120,
    exit_timeout_s: int = 10,
    control_key: str | None = None,
    open_control: bool = False,
    extra_args: Sequence[str] = (),
) -> Server:
    """Start Triton on a model repository and return when every model is loaded.

    `models` defaults to the ensembles that recsplit built there (or every model, in a repository of others). A port of
    None is a free one. `log` is appended to; without it the log is a temporary file. Who doesn't send `control_key` may not load and
    unload models, nor set where logs and traces go (control_key.read_key reads one from a file; None: a new one, which Server.control_key
    tells and recsplit's own commands find); with `open_control` everyone may, and so run code as the user who serves. `extra_args` are
    tritonserver's own; it runs in a private folder, so paths in them are absolute.

    Raises MissingExtra without nvidia-pytriton; before anything is started InputError for a repository, host or port that
    can't be served and RecsplitError for parts of different builds; RecsplitError, with the end of the log as its detail,
    where Triton refuses a model, ends, or is not ready in time. Nothing is left running then, nor after KeyboardInterrupt.
    """
    server = start(
        repository,
        models=models,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        host=host,
        log=log,
        exit_timeout_s=exit_timeout_s,
        control_key=control_key,
        open_control=open_control,
        extra_args=extra_args,
    )
    server.await_ready(ready_timeout_s)
    return server


def start(
    repository: str | os.PathLike[str],
    *,
    models: Sequence[str] = (),
    http_port: int | None = None,
    grpc_port: int | None = None,
    metrics_port: int | None = None,
    host: str = "127.0.0.1",
    log: Path | None = None,
    exit_timeout_s: int = 10,
    control_key: str | None = None,
    open_control: bool = False,
    extra_args: Sequence[str] = (),
) -> Server:
    """Start Triton as `serve` does, and return while it loads: `Server.await_ready` is the caller's, and so is ending it."""
    open_files.allow_enough()
    installation = triton.find()
    repository = Path(repository)
    names = models_to_load(repository, models)
    address = ports.address(host)
    chosen = ports.choose(address, {"HTTP": http_port, "gRPC": grpc_port, "metrics": metrics_port})
    environment = triton.environment(installation)
    triton.check_stub(installation, environment)
    target = logs.Log.open(log)
    folder = command_line.private_folder()
    key = None if open_control else control_key or keys.new_key()
    grpc_url = command_line.url(address, chosen["gRPC"])
    metrics_url = f"http://{command_line.url(address, chosen['metrics'])}/metrics"
    try:
        arguments = command_line.arguments(
            installation, repository, names, chosen, address, folder, exit_timeout_s, (*keys.arguments(key), *extra_args)
        )
        headers = {} if key is None else {keys.NAME: key}
        endpoint = Endpoint(command_line.url(address, chosen["HTTP"]), folder.name, headers)
        running = _start(arguments, environment, folder, exit_timeout_s, target, endpoint, WRITE_S if extra_args else FLUSH_S)
        notes.write(folder, notes.Note(running.process.pid, str(repository.resolve()), endpoint.url, grpc_url, metrics_url, key))
    except BaseException as error:
        guard.sweep(folder)
        if not isinstance(error, RecsplitError):
            target.discard()
        raise
    return Server(
        http_url=endpoint.url,
        grpc_url=grpc_url,
        metrics_url=metrics_url,
        log=target.path,
        pid=running.process.pid,
        models=names,
        running=running,
    )


def _start(
    arguments: list[str],
    environment: dict[str, str],
    folder: Path,
    exit_timeout_s: int,
    log: logs.Log,
    endpoint: Endpoint,
    flush_s: float,
) -> Running:
    """The server and its guard, in process groups of their own."""
    with log.path.open("ab") as output:
        process = subprocess.Popen(
            arguments, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **OWN_GROUP
        )
    watching = subprocess.Popen([sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE, text=True, **OWN_GROUP)
    assert watching.stdin is not None
    watching.stdin.write(f"{process.pid} {exit_timeout_s + GRACE_S} {folder}\n")
    watching.stdin.flush()
    return Running(process, watching, folder, exit_timeout_s, log, endpoint, flush_s)


def _await_ready(server: Server, timeout_s: float) -> None:
    """Raises RecsplitError when the server ends before it is ready, or is not ready in time."""
    running = server.running
    deadline = time.monotonic() + timeout_s
    while not running.endpoint.ready():
        try:
            code = running.process.wait(0.05)
        except subprocess.TimeoutExpired:
            keys.hide_once_read(server.pid, running.endpoint.headers, running.log)
            if running.log.deaf():
                running.process.kill()  # it can be asked nothing, and writes this line some 100,000 times a second
                running.process.wait()
                raise running.log.failure(running.log.reason() or "Triton can't be reached") from None
            if time.monotonic() < deadline:
                continue
            raise running.log.failure(f"Triton was not ready after {timeout_s:g} s", hint="a large model may need a longer time") from None
        reason = running.log.reason() or f"Triton ended before it was ready ({_ending(code)})"
        raise running.log.failure(reason, hint="if recsplit built it, `recsplit verify DIR` tries the files without a server")


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
