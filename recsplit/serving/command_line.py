"""tritonserver's command line, and the private folder that its own things lie in."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from recsplit.engine import compilation
from recsplit.engine.runtime import onnxruntime_library
from recsplit.plan.files import ENGINE_BACKEND
from recsplit.serving import notes, triton
from recsplit.serving.repository import auto_complete_needed, engine_needed
from recsplit.serving.workers import CONTROL_SOCKET

#: What bash takes as it is: Triton starts the Python stub through an unquoted bash command line.
PLAIN_PATH = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
#: Of 107 bytes that a socket's path may have: the rest are the names of the folder and of the socket in it.
_LONGEST_BASE = 107 - len(f"/{notes.PREFIX}12345678/{CONTROL_SOCKET}")


def arguments(
    installation: triton.Triton,
    repository: Path,
    models: Sequence[str],
    chosen: dict[str, int],
    address: str,
    folder: Path,
    exit_timeout_s: int,
    extra_args: Sequence[str],
) -> list[str]:
    """tritonserver's command line."""
    engine = _engine(repository)
    backends = triton.prepare_backends(installation, folder, engine)
    path = repository.resolve()
    if not PLAIN_PATH.fullmatch(str(path)):
        link = folder / "repository"
        link.symlink_to(path)
        path = link
    return [
        str(installation.binary),
        f"--model-repository={path}",
        f"--backend-directory={backends}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models),
        # Auto-complete starts a stub for every model and waits a second for it; a config that has it all needs none.
        *([] if auto_complete_needed(repository) else ["--disable-auto-complete-config"]),
        f"--http-address={address}",
        f"--http-port={chosen['HTTP']}",
        f"--grpc-address={address}",
        f"--grpc-port={chosen['gRPC']}",
        f"--metrics-address={address}",
        f"--metrics-port={chosen['metrics']}",
        "--metrics-config=summary_latencies=true",
        # Two servers on one machine, or one that was killed before, must not meet in /dev/shm.
        f"--backend-config=python,shm-region-prefix-name={folder.name}_",
        f"--exit-timeout-secs={exit_timeout_s}",
        f"--id={folder.name}",
        *([] if engine is None else [f"--backend-config={ENGINE_BACKEND},{setting}" for setting in _engine_settings(folder)]),
        *extra_args,
    ]


def _engine(repository: Path) -> Path | None:
    """The engine's library for Triton: made where a model needs it and it can be; else what was made before, for builds that come later."""
    if engine_needed(repository) and compilation.unavailable() is None:
        return compilation.make().backend
    engine = compilation.made()
    return None if engine is None else engine.backend


def _engine_settings(folder: Path) -> Sequence[str]:
    """What recsplit's engine is told: where ONNX Runtime is, and where it listens for a new number of workers."""
    return (f"onnxruntime={onnxruntime_library()}", f"control={folder / CONTROL_SOCKET}")


def private_folder() -> Path:
    """A new temporary folder whose path bash takes as it is, and in which a socket's path isn't too long."""
    base = tempfile.gettempdir()
    fits = PLAIN_PATH.fullmatch(base) is not None and len(base) <= _LONGEST_BASE
    return Path(tempfile.mkdtemp(prefix=notes.PREFIX, dir=base if fits else "/tmp"))


def url(address: str, port: int) -> str:
    """Where a client on this machine reaches the server."""
    return f"{'127.0.0.1' if address == '0.0.0.0' else address}:{port}"
