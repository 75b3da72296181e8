"""What a result must say about where it comes from: machine, versions, commit, date, command."""

import datetime as dt
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Packages whose version can move a number.
PACKAGES = ("recsplit", "onnxruntime", "torch", "numpy", "tritonclient", "nvidia-pytriton")


def provenance() -> dict[str, Any]:
    """CPU model, cores, memory, load, versions, commit (with "+" where files differ from it), date and this process's command line."""
    return {
        "machine": {
            "cpu": _line("/proc/cpuinfo", "model name") or platform.processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.platform(),
            "load_average": [round(value, 1) for value in os.getloadavg()],  # above what the benchmark itself needs, others were at work
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "commit": _commit(),
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "command": shlex.join([*_program(), *sys.argv[1:]]),
    }


def _program() -> list[str]:
    """What to type for this process: `recsplit`, or `python -m` and a module."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return ["python", "-m", spec.name.removesuffix(".__main__")]
    program = Path(sys.argv[0])
    return [program.name] if program.suffix != ".py" else ["python", str(program)]


def _line(path: str, key: str) -> str:
    """The value of the first line `key : value` in a file of /proc; "" where there is none."""
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this file lies in; None outside of one."""
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    if commit.returncode != 0:
        return None
    changes = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"], cwd=here, capture_output=True, text=True, check=False
    )
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
