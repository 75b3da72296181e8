"""The engine under sanitizers: `python -m tests.engine.sanitized address,undefined`, or `thread`; and a plugin of pytest for the first.

AddressSanitizer and UBSan: the engine's tests, with a library that is compiled so in the place of the usual one, in a process that their
runtime was put into before it began. ThreadSanitizer, which doesn't bear Python beside it: stress.cc, a program of its own.
What is found ends the process with an exit status of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from recsplit.engine import compilation
from tests.engine.models import written
from tests.graph.small import small, table

_FOLDER = "RECSPLIT_TESTS_ENGINE"
_TESTS = ("test_kernels.py", "test_programs.py", "test_engine.py", "test_recipes.py", "test_threads.py")
_RUNTIMES = {"address": "libasan.so", "undefined": "libubsan.so"}
_SECONDS = 60
#: Python and numpy are not compiled so, and give back less than they take; a SIGBUS that the engine handles is not the sanitizer's.
_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:handle_sigbus=0:allow_user_segv_handler=1:exitcode=66",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=66",
    "TSAN_OPTIONS": "exitcode=66:halt_on_error=1",
}


def pytest_configure(config: pytest.Config) -> None:
    """Put the engine of the folder in the place of the usual one."""
    folder = Path(os.environ[_FOLDER])
    compilation.made = lambda: compilation.Engine(folder / compilation.BACKEND, folder / compilation.LIBRARY)


def stress(flags: Sequence[str], wrapper: Sequence[str] = (), seconds: int = _SECONDS) -> int:
    """Compile stress.cc with the engine, and run it (inside `wrapper`, as valgrind) on a model of one table; its exit status."""
    compiler = next(compiler for compiler in compilation.compilers() if not compiler.zig)
    text = "(int64[N,20] ids) => (float[N,32] y) { v=Gather(t,ids) y=ReduceSum<keepdims=0>(v,axis) }"
    rows = 5000
    with tempfile.TemporaryDirectory() as folder:
        config = written(small(text, {"t": table(rows, 32), "axis": np.array([1])}).cut, Path(folder))
        program = Path(folder) / "stress"
        compilation.link_program(program, compiler, Path(__file__).with_name("stress.cc"), flags=flags)
        settings = json.dumps({"workers": 2, "tables": "huge", "kernels": "portable"})
        command = [*wrapper, str(program), folder, json.dumps(config), settings, str(rows), str(seconds)]
        return subprocess.run(command, env=os.environ | _OPTIONS, check=False).returncode


def main(sanitizers: str) -> int:
    """Compile, and run; the exit status of pytest or of the program, or the sanitizer's."""
    if sanitizers == "thread":
        return stress(("-fsanitize=thread", "-O1", "-g1"))
    if sanitizers == "valgrind":
        return stress(("-O1", "-g1"), ("valgrind", "--error-exitcode=66", "--leak-check=full", "--errors-for-leak-kinds=definite"))
    compiler = next(compiler for compiler in compilation.compilers() if not compiler.zig)
    flags = (f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-O1", "-g1")
    runtimes = []
    for name in sanitizers.split(","):
        asked = [*compiler.command, f"-print-file-name={_RUNTIMES[name]}"]
        runtimes.append(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    with tempfile.TemporaryDirectory() as folder:
        compilation.compile_into(Path(folder), compiler, flags=flags)
        here = Path(__file__).parent
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "tests.engine.sanitized", *(str(here / name) for name in _TESTS)]
        environment = os.environ | _OPTIONS | {_FOLDER: folder, "LD_PRELOAD": " ".join(runtimes), "PYTHONMALLOC": "malloc"}
        return subprocess.run(command, env=environment, cwd=here.parents[1], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "address,undefined"))
