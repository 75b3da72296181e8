"""Triton's binary from the nvidia-pytriton wheel: where it is, and the folder of backends it needs beside it."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from recsplit.engine.compilation import BACKEND
from recsplit.errors import InputError, MissingExtra
from recsplit.plan.files import ENGINE_BACKEND

#: Python-based backends that recsplit brings: Triton finds backends/<name>/model.py by the name in config.pbtxt.
BACKENDS = Path(__file__).parents[1] / "backends"


@dataclass(frozen=True)
class Triton:
    """The parts of the wheel: the server, its own backends, the stub for this Python, and its shared libraries."""

    binary: Path
    backends: Path
    stub: Path
    libraries: Path


def find() -> Triton:
    """The server of nvidia-pytriton. Raises MissingExtra without it, InputError where it can't run on this machine."""
    if not sys.platform.startswith("linux"):
        raise InputError(
            f"the pip Triton runs on Linux only, and this is {sys.platform}",
            hint="recsplit serve --docker prints a command that runs the same repository in NVIDIA's container",
        )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise MissingExtra("nvidia-pytriton", "local", "a Triton server on this machine")
    root = Path(spec.origin).parent / "tritonserver"
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = root / "python_backend_stubs"
    installation = Triton(
        binary=root / "bin/tritonserver",
        backends=root / "backends",
        stub=stubs / minor / "triton_python_backend_stub",
        libraries=root.parent.parent / "nvidia_pytriton.libs",
    )
    if not installation.binary.is_file():
        raise InputError(
            f"nvidia-pytriton has no server at {installation.binary}", hint="pip install --force-reinstall nvidia-pytriton==0.7.0"
        )
    if not installation.stub.is_file():
        known = ", ".join(sorted((path.name for path in stubs.iterdir()), key=lambda name: int(name.split(".")[1])))
        raise InputError(
            f"nvidia-pytriton has no Python backend for Python {minor}",
            hint=f"run recsplit with one of Python {known}, or use recsplit serve --docker",
        )
    return installation


def environment(triton: Triton) -> dict[str, str]:
    """Environment variables for the server, and through it for the stub that runs the Python backends."""
    environment = dict(os.environ)
    # The stub is linked to libpython3.x.so: take this interpreter's own, where it has one, before the system's.
    libraries = [str(triton.libraries), str(sysconfig.get_config_var("LIBDIR") or ""), environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = ":".join(path for path in libraries if path)
    # It finds its packages (onnxruntime, numpy) beside the first python in PATH.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', os.defpath)}"
    # It imports `model` by that bare name: no folder of the user's may come first.
    environment.pop("PYTHONPATH", None)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment


def prepare_backends(triton: Triton, folder: Path, engine: Path | None) -> Path:
    """A backend directory in `folder`: the wheel's python backend with the stub beside it, and recsplit's own.

    `engine`: the library of recsplit's engine. Without it the Python backend that runs ONNX models takes its place.
    """
    directory = folder / "backends"
    python = directory / "python"
    python.mkdir(parents=True)
    for path in [*(triton.backends / "python").iterdir(), triton.stub]:
        if path.is_file():
            shutil.copy(path, python)  # Triton refuses a link to a library outside its backend directory
    for backend in BACKENDS.iterdir():
        if (backend / "model.py").is_file():
            (directory / backend.name).mkdir()
            for path in backend.glob("*.py"):
                # A copy: an edit of the source must not reach a running server, nor its __pycache__ the source.
                (directory / backend.name / path.name).write_bytes(path.read_bytes())
    if engine is None:
        shutil.copytree(directory / "onnxruntime", directory / ENGINE_BACKEND)
    else:
        (directory / ENGINE_BACKEND).mkdir()
        shutil.copy(engine, directory / ENGINE_BACKEND / BACKEND)
    return directory


def check_stub(triton: Triton, environment: dict[str, str]) -> None:
    """Raises InputError where the stub can't start, most often because libpython is absent. Triton would only say "stub failed"."""
    trial = subprocess.run([triton.stub], env=environment, capture_output=True, text=True, check=False)
    if trial.returncode != 1:  # 1 is "Expected 9 arguments": it started
        raise InputError(
            f"Triton's Python stub does not start: {trial.stderr.strip() or f'exit status {trial.returncode}'}",
            hint=f"install Python's shared library (Debian: apt install libpython{sys.version_info.major}.{sys.version_info.minor})",
        )
