"""Earlier builds that stay in a repository, and going back to one: only configs change, and every file of a build stays as it is.

Each version folder holds the config.pbtxt of its build beside the build's files. What is served is what the configs above them name.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from recsplit.configs.check import parameter, parse, parts_of
from recsplit.disk.files import whole_file
from recsplit.disk.links import link_file
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import BUILD_PARAMETER, CONFIG_FILE
from recsplit.repository.find import build_of, served_version, text_of, versions


@dataclass(frozen=True)
class Kept:
    """A build of ensemble `name` that lies whole in a repository. `models`: its sub-models in the order of their steps."""

    name: str
    version: int
    build: str
    models: tuple[str, ...]


def kept_builds(repository: Path, name: str) -> tuple[Kept, ...]:
    """The builds of an ensemble that are whole, the one that is served among them, by version."""
    builds = (_kept(repository, name, version) for version in versions(repository / name))
    return tuple(build for build in builds if build is not None)


def _kept(repository: Path, name: str, version: int) -> Kept | None:
    """None where a file that going back needs is absent."""
    path = repository / name / str(version) / CONFIG_FILE
    try:
        config = parse(text_of(path), origin=str(path))
    except InputError:
        return None
    build = parameter(config, BUILD_PARAMETER)
    models = parts_of(config)
    folders = [repository / model for model in (name, *models)]
    whole = all(build_of(folder, version) == build and (folder / str(version) / CONFIG_FILE).is_file() for folder in folders)
    return Kept(name, version, build, models) if build is not None and whole else None


def to_keep(repository: Path, name: str, count: int) -> tuple[Kept, ...]:
    """The earlier builds that stay beside a new one where `count` are kept in all: the one that is served, then the newest."""
    served = served_version(repository / name)
    by_worth = sorted(kept_builds(repository, name), key=lambda kept: (kept.version == served, kept.version), reverse=True)
    return tuple(by_worth[: count - 1])


def link(repository: Path, kept: Kept, model: str, target: Path) -> None:
    """A kept build's folder of `model` once more in `target`, where its files take no space. Times stay, by which a server knows them.

    Raises OSError where the file system refuses.
    """
    shutil.copytree(repository / model / str(kept.version), target / str(kept.version), symlinks=True, copy_function=link_file)


def restore(repository: Path, kept: Kept) -> None:
    """Name `kept` in the configs, the ensemble's last. The caller has the repository's lock.

    Raises RecsplitError where a config can't be written: those before it are put back then.
    """
    models = (*kept.models, kept.name)
    before = {model: text_of(repository / model / CONFIG_FILE) for model in models}
    written: list[str] = []
    try:
        for model in models:
            _write(repository / model / CONFIG_FILE, text_of(repository / model / str(kept.version) / CONFIG_FILE))
            written.append(model)
    except BaseException as error:
        for model in reversed(written):
            _write(repository / model / CONFIG_FILE, before[model])
        if isinstance(error, OSError):
            raise RecsplitError(f"the configs in {repository} can't be written: {error}", hint="nothing was changed") from error
        raise


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())


def earlier(repository: Path, name: str, version: int | None) -> Kept:
    """The kept build to go back to: `version`, or the newest before the one that is served. Raises InputError where there is none."""
    builds, served = kept_builds(repository, name), served_version(repository / name)
    listing = ", ".join(f"{kept.version}{' (served)' if kept.version == served else ''}" for kept in builds) or "none"
    if version is None:
        before = [kept for kept in builds if served is None or kept.version < served]
        if not before:
            raise InputError(
                f"{repository} holds no build of {name!r} before version {served}",
                hint=f"versions that it holds: {listing}; recsplit build --keep N keeps N of them",
            )
        return before[-1]
    for kept in builds:
        if kept.version == version:
            return kept
    raise InputError(f"{repository} holds no whole build of {name!r} as version {version}", hint=f"versions that it holds: {listing}")
