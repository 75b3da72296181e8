"""Making the engine out of its sources: which compiler, with which flags, and where the libraries are kept.

They lie in a cache by the digest of all that goes into them, so that one machine makes them once, and a new version of recsplit, or another
compiler, makes its own. No headers of others are needed: Triton's and ONNX Runtime's functions are declared in the sources.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock

from recsplit.errors import RecsplitError
from recsplit.rendering.progress import Progress, in_silence, step

SOURCES = Path(__file__).parents[1] / "backends" / "native"
BACKEND = "libtriton_recsplit.so"
LIBRARY = "librecsplit_engine.so"
#: In the library that Triton loads and in no other: what is there calls functions that only the server has.
_SERVERS = "triton"
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-g0", "-pthread")
#: The kernels are compiled once for each instruction set; which one runs is decided when it runs.
_ARCHITECTURE = {
    "kernels_avx2.cc": ("-march=x86-64-v3",),
    "kernels_avx512.cc": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
}
#: zig's own names of the same.
_ZIG_ARCHITECTURE = {
    "kernels_avx2.cc": ("-mcpu=x86_64_v3",),
    "kernels_avx512.cc": ("-mcpu=x86_64_v4", "-mprefer-vector-width=512"),
}
#: Unused parts of the static C++ library are dropped, and with them what they want of a newer glibc.
_LINK = ("-shared", "-pthread", "-s", "-static-libstdc++", "-static-libgcc", "-Wl,--gc-sections")
#: zig brings its own C++ library, and builds for older systems than the one it runs on.
_ZIG_LINK = ("-shared", "-pthread", "-s")
_HINT = "apt install g++, or pip install 'recsplit[engine]'"


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C++, and its version in words. `zig`: whether it is ziglang's."""

    command: tuple[str, ...]
    version: str
    zig: bool


@dataclass(frozen=True)
class Engine:
    """The libraries: what Triton loads, and what this process does."""

    backend: Path
    library: Path


@cache
def compilers() -> tuple[Compiler, ...]:
    """C++ compilers of this machine, asked once a process, the one to take first: $CXX, then the system's, then the wheel ziglang's."""
    commands = [(name,) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name and shutil.which(name)]
    if importlib.util.find_spec("ziglang") is not None:
        commands.append((sys.executable, "-m", "ziglang", "c++"))  # type: ignore[arg-type]
    known: list[Compiler] = []
    for command in commands:
        asked = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            known.append(Compiler(tuple(command), asked.stdout.splitlines()[0] if asked.stdout else "", "ziglang" in command))
    return tuple(known)


def unavailable() -> str | None:
    """Why the engine can't run here, in words; None where it is made already, or can be."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return f"the engine runs on Linux, x86-64 and aarch64, and this is {sys.platform} on {platform.machine()}"
    if made() is not None or compilers():
        return None
    return "there is no C++ compiler here"


def made() -> Engine | None:
    """The engine of these sources that is in the cache already; None where it was never made."""
    if not _cache().is_dir():
        return None  # before any compiler is asked for its version: every start of a server comes here
    for folder in (_cache() / _digest(compiler) for compiler in compilers()):
        if (folder / BACKEND).is_file() and (folder / LIBRARY).is_file():
            return Engine(folder / BACKEND, folder / LIBRARY)
    return None


def make(progress: Progress = in_silence) -> Engine:
    """The engine, made where it isn't yet. Raises RecsplitError where there is no compiler, or it fails."""
    engine = made()
    if engine is not None:
        return engine
    known = compilers()
    if not known:
        raise RecsplitError("the engine can't be made: there is no C++ compiler here", hint=_HINT)
    folder = _cache() / _digest(known[0])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        engine = made()
        if engine is None:
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as temporary:
                result = Path(temporary) / "engine"
                result.mkdir()
                compile_into(result, known[0], progress)
                if folder.exists():
                    shutil.rmtree(folder)
                result.rename(folder)
            engine = Engine(folder / BACKEND, folder / LIBRARY)
    return engine


def compile_into(folder: Path, compiler: Compiler, progress: Progress = in_silence, *, flags: Sequence[str] = ()) -> Engine:
    """Compile and link both libraries into a folder; `flags` for all steps, as a sanitizer's. Raises RecsplitError where that fails."""
    objects = _objects(folder, compiler, progress, flags)
    link = _ZIG_LINK if compiler.zig else _LINK
    engine = Engine(folder / BACKEND, folder / LIBRARY)
    for target, left_out in ((engine.backend, "c_api.cc"), (engine.library, _SERVERS)):
        parts = [str(path) for source, path in objects.items() if left_out not in (source.name, source.parent.name)]
        # Symbols of Triton's stay undefined in the backend: the server that loads it has them.
        exports = f"-Wl,--version-script={SOURCES / 'exports.map'}"  # nothing of the C++ library's may meet another's in the server
        _call([*compiler.command, *link, exports, *flags, *parts, "-ldl", "-o", str(target)])
    for path in objects.values():
        path.unlink()
    return engine


def link_program(program: Path, compiler: Compiler, main: Path, *, flags: Sequence[str] = ()) -> None:
    """Compile the engine and a C++ file whose `main` calls its C interface into one program. Raises RecsplitError where that fails."""
    with tempfile.TemporaryDirectory() as folder:
        objects = _objects(Path(folder), compiler, in_silence, flags)
        parts = [str(path) for source, path in objects.items() if source.parent.name != _SERVERS]
        _call([*compiler.command, *_FLAGS, *flags, f"-I{SOURCES}", str(main), *parts, "-ldl", "-o", str(program)])


def _objects(folder: Path, compiler: Compiler, progress: Progress, flags: Sequence[str]) -> dict[Path, Path]:
    """Every source compiled into a folder, by its path."""
    sources = [path for path in sorted(SOURCES.rglob("*.cc")) if platform.machine() == "x86_64" or path.name not in _ARCHITECTURE]
    advance = step(progress, "compiling the engine", len(sources))

    architecture = _ZIG_ARCHITECTURE if compiler.zig else _ARCHITECTURE
    # zig compiles for the processor at hand where nothing is said, and what was made here may run on another.
    usual = ("-mcpu=baseline",) if compiler.zig else ()
    always = (*compiler.command, *_FLAGS, f"-I{SOURCES}")

    def compiled(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        _call([*always, *architecture.get(source.name, usual), *flags, "-c", str(source), "-o", str(target)])
        advance(1)
        return target

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(sources, pool.map(compiled, sources), strict=True))


def zig_target(glibc: str) -> tuple[str, ...]:
    """Flags of zig for this kind of processor and that glibc."""
    return ("-target", f"{platform.machine()}-linux-gnu.{glibc}")


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RecsplitError(f"the compiler failed: {' '.join(command[:4])} ...", hint=_HINT, detail=done.stderr[-4000:])


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "recsplit" / "engine"


def _digest(compiler: Compiler) -> str:
    """Of all that goes into the libraries."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in ("*.cc", "*.h", "*.map") for path in SOURCES.rglob(pattern)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(
        repr((compiler.command, compiler.version, _FLAGS, _ARCHITECTURE, _ZIG_ARCHITECTURE, _LINK, _ZIG_LINK, platform.machine())).encode()
    )
    return digest.hexdigest()[:20]
