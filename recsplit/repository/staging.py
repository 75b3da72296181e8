"""A build comes into the model repository: staged beside it, moved in at once.

Each model's folder is exchanged with the old one in one step, the sub-models before the ensemble; earlier builds that are kept are in the
new folder too. A failure at any point leaves the repository as it was; a kill between two of these steps leaves parts of two builds,
which repository.find refuses.

The area lies beside the repository, not in it: Triton takes every folder inside for a model, hidden ones too, and
one that it can't load keeps the server from starting (seen on 2.51 with model control modes none and poll).
"""

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from recsplit.disk.files import FULL, disk_full, flush, flush_one
from recsplit.disk.swap import Swap, put_back
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import BUILD_FILE
from recsplit.repository.find import is_recsplits, is_router, plan_file, versions
from recsplit.repository.kept import link, to_keep

#: What a folder of a repository is.
Kind = Literal["ensemble", "part", "router"]
# A folder's name, and part of Triton's URLs.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Stage:
    """A build in the making: files are put under `path`, then `publish` moves all of them into the repository."""

    def __init__(self, repository: Path, name: str, area: Path, kind: Kind) -> None:
        self.repository = repository
        self.name = name
        #: One above every version of this ensemble so far, so that a running server notices the new one.
        self.version = max(versions(repository / name), default=0) + 1
        self._kind: Kind = kind
        self._models = area / "models"
        self._aside = area / "aside"

    def path(self, model: str, filename: str) -> Path:
        """Where to write a file of `model`'s version folder; the folder exists."""
        path = self._models / model / str(self.version) / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, configs: Mapping[str, str]) -> None:
        """Write config.pbtxt texts by path relative to the repository, as configs.render gives them, and once more for `restore`."""
        for relative, text in configs.items():
            path = self._models / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.path(path.parent.name, path.name).write_text(text, encoding="utf-8")

    def publish(self, build: str, *, keep: int = 1) -> None:
        """Move every staged model into the repository, the ensemble last; all of them or none. `build`: the id of this build.

        `keep` builds are there then: this one, the one that was served, and the newest before it. Raises InputError where a folder of
        that name is not recsplit's, RecsplitError where the system refuses.
        """
        # The ensemble comes last: it is what `find` and clients look at.
        models = sorted((path.name for path in self._models.iterdir()), key=lambda model: (model == self.name, model))
        for model in models:
            _refuse_foreign(self.repository / model, self._kind if model == self.name else "part")
            self.path(model, BUILD_FILE).write_text(f"{build}\n", encoding="utf-8")
        kept = to_keep(self.repository, self.name, keep)
        for earlier in kept:
            for model in {*earlier.models, earlier.name} & {*models}:
                link(self.repository, earlier, model, self._models / model)
        gone = self._gone({*models, *(model for earlier in kept for model in earlier.models)})
        flush(self._models)
        swaps = [Swap(self._models / model, self.repository / model, self._aside / model) for model in models]
        try:
            for swap in swaps:
                swap.do()
            for model in gone:
                self._take_away(model)
            flush_one(self.repository)
        except BaseException as error:  # Ctrl-C too leaves the repository as it was
            for model in gone:
                put_back(self._aside / model, self.repository / model)
            for swap in reversed(swaps):
                swap.undo()
            if isinstance(error, OSError):
                raise RecsplitError(f"the new models can't be moved into {self.repository}: {error}", hint="nothing was changed") from error
            raise

    def _gone(self, models: Collection[str]) -> list[str]:
        """Shards of an earlier build that neither this one nor a kept one has: a server would load them for nothing."""
        shard = re.compile(re.escape(self.name) + "_embedding_[0-9]+")
        shard_folders = [path for path in self.repository.iterdir() if shard.fullmatch(path.name) and path.name not in models]
        return sorted(path.name for path in shard_folders if is_recsplits(path) and plan_file(path) is None)

    def _take_away(self, model: str) -> None:
        (self.repository / model).rename(self._aside / model)


@contextlib.contextmanager
def staging(repository: Path, name: str, kind: Kind = "ensemble") -> Iterator[Stage]:
    """A place on the same file system where a build of `name` is put together; removed at the end, whatever happens.

    Nobody else writes to the repository meanwhile. Creates the folder `repository` where only the last part of its path is missing.
    Raises InputError where the folder can't be used, another build is at work on it, or it has models of these names that recsplit
    didn't write.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} can't name a model", hint="use letters, digits, '_', '-' and '.', and begin with a letter or digit")
    try:
        repository = repository.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: how Python below 3.13 tells of links that go in a circle
        raise InputError(f"{repository} can't be followed: {error}", hint="choose another folder, or mend its links") from error
    _refuse_unusable(repository)
    try:
        with _area(repository) as area:
            _refuse_foreign(repository / name, kind)
            for model in (f"{name}_embedding", f"{name}_dense") if kind == "ensemble" else ():
                _refuse_foreign(repository / model, "part")
            yield Stage(repository, name, area, kind)
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(repository) from error
        raise


@contextlib.contextmanager
def locked(repository: Path) -> Iterator[None]:
    """The repository, which exists, while nobody else writes to it. Raises InputError where somebody does, or it can't be written to."""
    repository = repository.resolve()
    _refuse_unusable(repository)
    with _area(repository):
        yield


def _refuse_unusable(repository: Path) -> None:
    """Raise InputError, before any work is done, where the folder can't be made or written to."""
    if repository.exists() and not repository.is_dir():
        raise InputError(f"{repository} is a file, and a model repository is a folder", hint="choose another folder")
    if not repository.parent.is_dir():
        first = next(path for path in (repository.parent, *repository.parent.parents) if path.exists())
        if not first.is_dir():
            raise InputError(f"{first} is a file, and {repository} would be inside it", hint="choose another folder")
        raise InputError(f"the folder {repository.parent} doesn't exist", hint=f"mkdir -p {repository.parent}")
    written = repository if repository.exists() else repository.parent
    if not _writable(written):
        read_only = os.statvfs(written).f_flag & os.ST_RDONLY
        hint = "choose a folder on another disk" if read_only else "choose another folder, or change its owner or permissions"
        raise InputError(f"{written} can't be written: {'its disk is read-only' if read_only else 'permission denied'}", hint=hint)


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=True)


def _refuse_foreign(folder: Path, kind: Kind) -> None:
    """Raise InputError where `folder` exists and is not of the kind that takes its place."""
    if not os.path.lexists(folder):
        return
    there: Kind = "router" if is_router(folder) else "part" if plan_file(folder) is None else "ensemble"
    if not is_recsplits(folder):
        problem = "recsplit didn't write it"
    elif there != kind:
        problem = {"ensemble": "it is another ensemble", "part": "it is a part of another ensemble", "router": "it is a router"}[there]
    else:
        return
    raise InputError(f"{folder} exists, and {problem}", hint="choose another --name or another folder, or move that one away")


@contextlib.contextmanager
def _area(repository: Path) -> Iterator[Path]:
    """The staging area, locked and empty, and the repository's folder made where it is missing.

    What a killed build left in the area is removed, or put back where it was.
    """
    area = _area_path(repository)
    lock = _lock(area, repository)
    created = not repository.exists()
    try:
        repository.mkdir(exist_ok=True)
        _put_back(area, repository)
        _clear(area)
        (area / "aside").mkdir()
        (area / "models").mkdir()
        yield area
    finally:
        with contextlib.suppress(OSError):
            if created:
                repository.rmdir()  # unless the build is in it now
        # Old versions are here too, now. What can't be removed is left to the next build.
        with contextlib.suppress(OSError):
            _clear(area)
            # A build that comes between these two makes a lock of its own, and the folder stays.
            (area / "lock").unlink()
            area.rmdir()
        lock.release()


def _area_path(repository: Path) -> Path:
    """Beside the repository, out of Triton's sight; inside where that is another file system or not ours to write."""
    beside = repository.parent / f".{repository.name}.recsplit"
    if not repository.exists():
        return beside
    same = beside.parent.stat().st_dev == repository.stat().st_dev and not repository.is_mount()
    return beside if same and _writable(beside.parent) else repository / ".recsplit"


def _lock(area: Path, repository: Path) -> FileLock:
    """Make the area and lock it against other builds, until the lock is released or we die. The lock's file goes with the area."""
    path = area / "lock"
    # No soft lock where the kernel has none: that is a file which a killed build would leave behind.
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    while True:
        try:
            area.mkdir(exist_ok=True)
        except FileExistsError:
            raise InputError(f"{area} is in the way: builds are staged there", hint="move it away") from None
        except OSError as error:
            if error.errno in FULL:
                raise
            raise InputError(f"{area.parent} can't be written: {error.strerror}", hint="choose another folder") from error
        try:
            # filelock may have locked the file of a build that just ended: it asks how many links that has, and on NFS it has one. What
            # is open here has been at `path` all the while if it still is, and so it is what was locked.
            with path.open("a") as file:
                lock.acquire()
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return lock
        except Timeout:
            if path.exists():  # else that build has ended just now
                raise InputError(f"another build is writing to {repository}", hint="wait until it has finished") from None
        except FileNotFoundError:
            pass  # another build ended just now, and removed the area
        lock.release()


def _put_back(area: Path, repository: Path) -> None:
    """Restore what a build had set aside when it was killed."""
    aside = area / "aside"
    for model in aside.iterdir() if aside.is_dir() else ():
        put_back(model, repository / model.name)


def _clear(area: Path) -> None:
    for path in area.iterdir():
        if path.name != "lock":
            shutil.rmtree(path)
