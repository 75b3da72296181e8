"""Model repositories on disk: find a build in one, and tell what is recsplit's in it.

How a build comes in is staging.py's, and how an earlier one comes back is kept.py's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsplit.configs import check
from recsplit.configs.check import parameter, parse, parts_of
from recsplit.disk import bounded
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import BUILD_FILE, BUILD_PARAMETER, CONFIG_FILE, PLAN_FILE, ROUTING_FILE
from recsplit.plan.plan import Plan, from_json


@dataclass(frozen=True)
class Build:
    """A build in a repository: `folder` is the ensemble's version folder, with plan.json and the reference outputs."""

    repository: Path
    plan: Plan
    folder: Path


def find(repository: Path, model: str | None = None) -> Build:
    """The build of ensemble `model`, or of the only one there is, that its config names.

    Raises InputError where there is none, or several and no `model`, or a plan can't be read; RecsplitError where the
    parts don't come from one build.
    """
    name = ensemble_name(repository, model)
    path = plan_file(repository / name)
    assert path is not None
    plan = from_json(text_of(path), origin=str(path))
    _same_build(repository, path, plan)
    return Build(repository, plan, path.parent)


def ensemble_name(repository: Path, model: str | None) -> str:
    """`model`, or the only ensemble there is. Raises InputError where there is none, or several and no `model`."""
    if not repository.is_dir():
        raise InputError(f"{repository} is not a folder", hint="recsplit build SOURCE -o DIR writes a model repository")
    try:
        plans = [folder.name for folder in sorted(repository.iterdir()) if plan_file(folder) is not None]
    except OSError as error:
        raise InputError(f"{repository} can't be read: {error.strerror}", hint="change its owner or permissions") from error
    if not plans:
        inside = plan_file(repository) is not None
        hint = f"it is one model of a repository: give {repository.parent}" if inside else "recsplit build SOURCE -o DIR writes one"
        raise InputError(f"{repository} holds no ensemble that recsplit built", hint=hint)
    if model is None and len(plans) > 1:
        raise InputError(f"{repository} holds several ensembles: {', '.join(plans)}", hint="say which one with --model")
    if model is not None and model not in plans:
        raise InputError(f"{repository} holds no ensemble {model!r} that recsplit built", hint=f"it holds {', '.join(plans)}")
    return model if model is not None else plans[0]


def refuse_mixture(repository: Path, ensemble: str) -> None:
    """Raise RecsplitError where a step of an ensemble that recsplit built would be served by another build.

    InputError where a step has a config and no version folder. Reads configs and ids only. What else is absent or can't be read is not
    judged: Triton says so itself, and in better words.
    """
    config = _config(repository / ensemble)
    build = None if config is None else parameter(config, BUILD_PARAMETER)
    if build is None:
        return
    steps = parts_of(config)
    for step in steps:
        if _config(repository / step) is not None and not versions(repository / step):
            raise InputError(
                f"{repository / step} has a config and no model files",
                hint="build the model again; a checkout of recsplit holds configs only, and `make repository` adds the files",
            )
    builds = {name: served_build(repository / name) for name in (ensemble, *steps)}
    if set(builds.values()) - {build, None}:
        raise _mixed(repository, ensemble, builds)


def _mixed(repository: Path, ensemble: str, builds: Mapping[str, str | None], more: str = "") -> RecsplitError:
    build_listing = ", ".join(f"{name}: {build or 'not there'}" for name, build in builds.items())
    return RecsplitError(
        f"the parts of {ensemble!r} in {repository} come from different builds ({build_listing}{more})",
        hint="a build or a rollback was interrupted, or is at work now: build again, or go back with recsplit rollback",
    )


def _same_build(repository: Path, path: Path, plan: Plan) -> None:
    folder = path.parent.parent.name
    if folder != plan.name:
        raise RecsplitError(f"{path} was built as {plan.name!r}, and its folder is {folder!r}", hint="rename the folder back")
    names = (plan.name, *(model.name for model in plan.submodels))
    for name in names:
        config = repository / name / CONFIG_FILE
        if config.is_file():
            parse(text_of(config), origin=str(config))
        version = served_version(repository / name) or plan.version  # another one where a build was interrupted
        for needed in (config, repository / name / str(version) / BUILD_FILE):
            if not needed.is_file():
                raise RecsplitError(
                    f"there is no file {needed}", hint="build the model again: files were taken away, or an earlier recsplit built it"
                )
    builds = {name: served_build(repository / name) for name in names}
    if set(builds.values()) != {plan.build}:
        raise _mixed(repository, plan.name, builds, f"; plan: {plan.build}")


def plan_file(folder: Path) -> Path | None:
    """The plan of the version of an ensemble that its config names; None where `folder` is anything else."""
    version = served_version(folder)
    path = None if version is None else folder / str(version) / PLAN_FILE
    return path if path is not None and path.is_file() else None


def is_router(folder: Path) -> bool:
    """Whether the version of a model that Triton serves is a router."""
    version = served_version(folder)
    return version is not None and (folder / str(version) / ROUTING_FILE).is_file()


def served_version(folder: Path) -> int | None:
    """The version of a model that Triton serves: the one that its config names, else the newest. None without a config or a version."""
    config = _config(folder)
    if config is None:
        return None
    named = check.versions(config)
    numbers = [number for number in versions(folder) if not named or number in named]
    return numbers[-1] if numbers else None


def served_build(folder: Path) -> str | None:
    """The id of the build that Triton serves from a model's folder; None where recsplit didn't write it, or it isn't there."""
    version = served_version(folder)
    return None if version is None else build_of(folder, version)


def versions(folder: Path) -> list[int]:
    """The version numbers in a model's folder, rising; as in Triton, only folders named by a positive number count."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if re.fullmatch("[1-9][0-9]{0,17}", path.name) and path.is_dir())


def build_of(folder: Path, version: int) -> str | None:
    """The id of the build that wrote a model's version; None where there is none, or recsplit didn't write it."""
    path = folder / str(version) / BUILD_FILE
    return text_of(path).strip() if path.is_file() else None


def is_recsplits(folder: Path) -> bool:
    """Whether the model in a folder has a config that recsplit wrote."""
    config = _config(folder)
    return config is not None and any(key.startswith("recsplit.") for key in config.parameters)


def _config(folder: Path) -> Any:
    """The model's config; None where there is none, or one that can't be read."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        return parse(text_of(path), origin=str(path))
    except InputError:
        return None


def text_of(path: Path) -> str:
    """A text that a build wrote. Raises InputError where it can't be read, or is more than such a text is."""
    return bounded.read_text(path, bounded.RECORD_BYTES, hint="build the model again")
