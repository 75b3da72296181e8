"""The files that a group's servers need, and their checksums."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recsplit.errors import RecsplitError
from recsplit.plan.files import BUILD_FILE, CONFIG_FILE, REFERENCES_FILE, WHOLE_FILE
from recsplit.repository.find import served_version

#: In a version folder, for `recsplit verify` and `recsplit rollback`: no server reads them.
_NOT_SERVED = frozenset({REFERENCES_FILE, WHOLE_FILE, BUILD_FILE, CONFIG_FILE})


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: its path relative to the repository, bytes, and SHA-256 in hex."""

    path: PurePosixPath
    size_bytes: int
    sha256: str


def model_files(
    repository: Path, models: Sequence[str], *, advance: Callable[[int], None] = lambda _: None
) -> Mapping[str, tuple[ModelFile, ...]]:
    """By model, the config and the files of the served version that serving needs, in the order of their paths.

    Reads every byte; `advance` takes how many more were read. Raises RecsplitError for a model without a version.
    """
    return {
        model: tuple(_hash(repository, path, advance) for path in paths)
        for model, paths in ((model, _paths(repository, model)) for model in models)
    }


def total_bytes(repository: Path, models: Sequence[str]) -> int:
    """Bytes of all that `model_files` will read. Raises RecsplitError as it does."""
    return sum(path.stat().st_size for model in models for path in _paths(repository, model))


def _paths(repository: Path, model: str) -> list[Path]:
    folder = repository / model
    version = served_version(folder)
    if version is None:
        raise RecsplitError(f"{folder} has no version", hint="build the model again")
    inside = (path for path in (folder / str(version)).rglob("*") if path.is_file() and path.name not in _NOT_SERVED)
    return [folder / CONFIG_FILE, *sorted(inside)]


def _hash(repository: Path, path: Path, advance: Callable[[int], None]) -> ModelFile:
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            size_bytes += len(block)
            advance(len(block))
    return ModelFile(PurePosixPath(path.relative_to(repository).as_posix()), size_bytes, digest.hexdigest())


def checksums(files: Sequence[ModelFile]) -> str:
    """The files as `sha256sum --check` reads them."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in files)
