"""A folder of rendered texts comes in whole: written beside it, exchanged with it at once, with what others put there kept.

A file of digests tells which files recsplit wrote and what they held: one that was edited since, or that recsplit didn't write, is
never overwritten.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from recsplit.disk import bounded
from recsplit.disk.files import FULL, disk_full, flush
from recsplit.disk.swap import Swap, put_back
from recsplit.errors import InputError
from recsplit.plan.strict_json import parse


@dataclass(frozen=True)
class FolderKind:
    """What a folder is of. `written`: its file of digests, by path; another kind's folder has another one, and is foreign.

    `user_file`: a file that is the user's from its first writing on, or None. `advice`: where an edit of a rendered file belongs instead.
    """

    written: str
    user_file: str | None
    advice: str


def refuse_foreign(folder: Path, kind: FolderKind) -> None:
    """Raise InputError where `folder` can't be written, holds other things than recsplit's of this kind, or one of them was edited."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and what is rendered is a folder", hint="choose another folder")
    if not folder.parent.is_dir():
        raise InputError(f"the folder {folder.parent} doesn't exist", hint=f"mkdir -p {folder.parent}")
    if not os.access(folder.resolve().parent, os.W_OK):
        raise InputError(f"{folder.parent} can't be written: permission denied", hint="choose another folder")
    if not folder.exists():
        return
    digests = _written(folder, kind)
    if digests is None:
        if others := sorted(path.name for path in folder.iterdir() if path.name != kind.user_file):
            raise InputError(f"{folder} holds {others[0]!r}, which recsplit didn't write", hint="choose a new folder")
        return
    for path, digest in digests.items():
        file = folder / path
        if file.is_file() and bounded.digest(file, hint=kind.advice) != digest:
            raise InputError(
                f"{file} was edited since recsplit wrote it",
                hint=f"{kind.advice}, and delete {file}",
            )


def write(folder: Path, texts: Mapping[str, str], kind: FolderKind) -> None:
    """Put texts into `folder` by path: all of them or none, in place of what recsplit wrote before; other files stay.

    Raises InputError as `refuse_foreign` does, and where a text would overwrite a file of others; RecsplitError on a full disk.
    """
    refuse_foreign(folder, kind)
    folder = folder.resolve()
    before = (_written(folder, kind) or {}) if folder.exists() else {}
    for path in texts:
        if path not in before and path != kind.user_file and (folder / path).exists():
            raise InputError(f"{folder / path} is in the way, and recsplit didn't write it", hint="move it")
    area = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    new, aside = area / "new", area / "old"
    try:
        if folder.exists():
            gone = {str(folder / path) for path in (*before, kind.written)}
            shutil.copytree(folder, new, symlinks=True, ignore=lambda at, names: {name for name in names if f"{at}/{name}" in gone})
        digests = {}
        for path, text in texts.items():
            file = new / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            if path != kind.user_file:
                digests[path] = hashlib.sha256(text.encode()).hexdigest()
        (new / kind.written).write_text(json.dumps({"schema": 1, "files": dict(sorted(digests.items()))}, indent=1) + "\n")
        _drop_empty(new)
        flush(new)
        Swap(new, folder, aside).do()
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(folder.parent) from error
        raise
    finally:
        put_back(aside, folder)  # an interrupt between two moves
        shutil.rmtree(area, ignore_errors=True)


def _written(folder: Path, kind: FolderKind) -> dict[str, str] | None:
    """Digests by path; None where there is no list of ours, InputError where it can't be read."""
    path = folder / kind.written
    if not path.is_file():
        return None
    hint = "choose a new folder"
    value = parse(bounded.read_text(path, bounded.RECORD_BYTES, hint=hint), origin=str(path), again=hint)
    try:
        files = value["files"]
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in files.items()):
            raise TypeError("digests are texts")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} can't be read: it holds no digests of files", hint=hint) from error
    return dict(files)


def _drop_empty(folder: Path) -> None:
    """Folders that held only files which are no longer rendered go too."""
    for path in sorted((path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
