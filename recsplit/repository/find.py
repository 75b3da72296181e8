"""Model repositories on disk: find a build in one, and tell what is recsplit's in it.

How a build comes in is staging.py's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recsplit.configs.check import parameter, parse
from recsplit.disk import bounded
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import BUILD_PARAMETER, CONFIG_FILE, PLAN_FILE
from recsplit.plan.plan import Plan, from_json


@dataclass(frozen=True)
class Build:
    """A build in a repository: `folder` is the ensemble's version folder, with plan.json and the reference outputs."""

    repository: Path
    plan: Plan
    folder: Path


def find(repository: Path, model: str | None = None) -> Build:
    """The build of ensemble `model`, or of the only one there is.

    Raises InputError where there is none, or several and no `model`, or a plan can't be read; RecsplitError where the
    parts don't come from one build.
    """
    if not repository.is_dir():
        raise InputError(f"{repository} is not a folder", hint="recsplit build SOURCE -o DIR writes a model repository")
    try:
        plans = {folder.name: path for folder in sorted(repository.iterdir()) if (path := plan_file(folder)) is not None}
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
    path = plans[model if model is not None else next(iter(plans))]
    plan = from_json(_read(path), origin=str(path))
    _same_build(repository, path, plan)
    return Build(repository, plan, path.parent)


def refuse_mixture(repository: Path, ensemble: str) -> None:
    """Raise RecsplitError where a step of an ensemble that recsplit built carries the id of another build.

    InputError where a step has a config and no version folder. Reads configs only. What else is absent or can't be read is not
    judged: Triton says so itself, and in better words.
    """
    build = build_of(repository / ensemble)
    if build is None:
        return
    path = repository / ensemble / CONFIG_FILE
    steps = [step.model_name for step in parse(_read(path), origin=str(path)).ensemble_scheduling.step]
    builds = {name: build_of(repository / name) for name in (ensemble, *steps)}
    if {build, None} | set(builds.values()) != {build, None}:
        raise _mixed(repository, ensemble, builds)
    for step in steps:
        if build_of(repository / step) == build and not versions(repository / step):
            raise InputError(
                f"{repository / step} has a config and no model files",
                hint="build the model again; a checkout of recsplit holds configs only, and `make repository` adds the files",
            )


def _mixed(repository: Path, ensemble: str, builds: Mapping[str, str | None], more: str = "") -> RecsplitError:
    build_listing = ", ".join(f"{name}: {build or 'absent'}" for name, build in builds.items())
    return RecsplitError(
        f"the parts of {ensemble!r} in {repository} come from different builds ({build_listing}{more})",
        hint="a build was interrupted while it moved its parts in, or is doing so now: build again",
    )


def _same_build(repository: Path, path: Path, plan: Plan) -> None:
    folder = path.parent.parent.name
    if folder != plan.name:
        raise RecsplitError(f"{path} was built as {plan.name!r}, and its folder is {folder!r}", hint="rename the folder back")
    builds = {name: build_of(repository / name) for name in (plan.name, *(model.name for model in plan.submodels))}
    if set(builds.values()) != {plan.build}:
        raise _mixed(repository, plan.name, builds, f"; plan: {plan.build}")


def plan_file(folder: Path) -> Path | None:
    """The plan of an ensemble's newest version; None where `folder` is anything else."""
    numbers = versions(folder)
    path = folder / str(numbers[-1]) / PLAN_FILE if numbers else None
    return path if path is not None and path.is_file() else None


def versions(folder: Path) -> list[int]:
    """The version numbers in a model's folder, rising; as in Triton, only folders named by a positive number count."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if re.fullmatch("[1-9][0-9]{0,17}", path.name) and path.is_dir())


def build_of(folder: Path) -> str | None:
    """The build id in a model's config; None where there is no config, or one that recsplit didn't write."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        return parameter(parse(_read(path), origin=str(path)), BUILD_PARAMETER)
    except InputError:
        return None


def _read(path: Path) -> str:
    return bounded.read_text(path, bounded.RECORD_BYTES, hint="build the model again")
