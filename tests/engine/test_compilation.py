"""Making the engine: once, by what compiler there is, and for another Triton."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsplit.engine import compilation
from recsplit.engine.exported import needed_glibc
from recsplit.engine.library import Library
from recsplit.errors import RecsplitError
from tests.conftest import Run

_NM = shutil.which("nm")
needs_compiler = pytest.mark.skipif(compilation.unavailable() is not None, reason=str(compilation.unavailable()))


@needs_compiler
def test_it_is_made_once_and_gives_away_no_name_of_the_c_library(run_here: Run) -> None:
    done = run_here("backend", "build", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    backend = Path(told["backend"])
    before = backend.stat().st_mtime_ns
    assert compilation.make().backend == backend and backend.stat().st_mtime_ns == before
    assert re.fullmatch(r"2\.\d+", told["glibc"])
    if _NM is not None:
        assert {name for name in defined(backend) if not name.startswith("TRITONBACKEND_")} == set()
        assert {name for name in defined(Path(told["library"])) if not name.startswith("recsplit_")} == set()


def defined(library: Path) -> list[str]:
    """Names that a library gives to others."""
    listed = subprocess.run([str(_NM), "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    return [line.split()[-1] for line in listed.stdout.splitlines()]


@pytest.mark.slow
@needs_compiler
def test_it_is_exported_for_an_image(run_here: Run, tmp_path: Path) -> None:
    done = run_here("backend", "export", tmp_path / "image")
    assert done.returncode == 0, done.stderr
    library = tmp_path / "image/backends/recsplit" / compilation.BACKEND
    assert sorted(path.name for path in (tmp_path / "image").rglob("*") if path.is_file()) == ["Dockerfile", library.name]
    assert f"runs with glibc {needed_glibc(library)} and newer" in done.stdout
    again = run_here("backend", "export", tmp_path / "image")
    assert again.returncode == 2 and "is there already, and isn't empty" in again.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="the wheel ziglang is not installed")
def test_a_machine_without_a_compiler_of_its_own_builds_for_the_engine_with_the_wheel(tmp_path: Path) -> None:
    """And its kernels for each instruction set give the bits that others give."""
    environment = {"HOME": str(tmp_path), "PATH": "/nowhere", "LANG": "C.UTF-8"}
    command = [sys.executable, "-m", "recsplit", "build", "recsplit.zoo.tiny:dlrm", "-o", "models", "--name", "tiny", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    build = json.loads(done.stdout)
    assert build["plan"]["embedding"]["runtime"] == "native", build["notes"]
    (library,) = tmp_path.rglob(compilation.LIBRARY)
    table = np.random.default_rng(0).standard_normal((50, 48)).astype(np.float32)
    ids = np.random.default_rng(1).integers(0, 50, (7, 20))
    for dtype, stored in (("FP32", table), ("FP16", table.astype(np.float16))):
        for kernels in ("portable", ""):
            pooled = Library(compilation.Engine(library, library)).pool(stored, dtype, ids, "sum", kernels)
            np.testing.assert_array_equal(pooled, Library(compilation.make()).pool(stored, dtype, ids, "sum", kernels))


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "compilers", list)
    assert compilation.unavailable() == "there is no C++ compiler here"
    with pytest.raises(RecsplitError, match="there is no C") as error:
        compilation.make()
    assert "recsplit[engine]" in error.value.hint


@needs_compiler
def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(RecsplitError, match="the compiler failed") as error:
        compilation.compile_into(tmp_path, compilation.compilers()[0], flags=("-no-such-flag",))
    assert "-no-such-flag" in error.value.detail
