"""The engine as files for another Triton, NVIDIA's container among them: the backend's library, and how an image takes it in."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from recsplit.engine import compilation
from recsplit.errors import InputError
from recsplit.plan.files import ENGINE_BACKEND
from recsplit.rendering.progress import Progress, in_silence

#: The C library from which on zig's build runs: that of CentOS 7, older than any of NVIDIA's containers.
OLDEST_GLIBC = "2.17"
_DOCKERFILE = """\
# NVIDIA's Triton with recsplit's engine. ONNX Runtime is the image's own, beside its onnxruntime backend.
ARG IMAGE
FROM $IMAGE
COPY backends/{backend} /opt/tritonserver/backends/{backend}
"""


@dataclass(frozen=True)
class Exported:
    """The folder, what it holds, and the oldest glibc that the library runs with."""

    folder: Path
    files: tuple[Path, ...]
    glibc: str


def export(folder: Path, progress: Progress = in_silence) -> Exported:
    """Write the engine and a Dockerfile into a new or empty folder; built by ziglang, where that is installed, for old systems too.

    Raises InputError where the folder holds something, RecsplitError where there is no compiler or it fails.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already, and isn't empty", hint="choose a new folder")
    target = folder / "backends" / ENGINE_BACKEND / compilation.BACKEND
    zig = next((compiler for compiler in compilation.compilers() if compiler.zig), None)
    target.parent.mkdir(parents=True)
    if zig is None:
        shutil.copy(compilation.make(progress).backend, target)
    else:
        engine = compilation.compile_into(target.parent, zig, progress, flags=compilation.zig_target(OLDEST_GLIBC))
        engine.library.unlink()
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(_DOCKERFILE.format(backend=ENGINE_BACKEND), encoding="utf-8")
    return Exported(folder, (target, dockerfile), needed_glibc(target))


def needed_glibc(library: Path) -> str:
    """The newest version of glibc whose symbols a library asks for, "2.36"."""
    versions = {tuple(map(int, version.split(b"."))) for version in re.findall(rb"GLIBC_(\d+(?:\.\d+)+)\0", library.read_bytes())}
    return ".".join(map(str, max(versions, default=(2,))))
