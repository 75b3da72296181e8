"""A running server takes the build that its repository holds now, and no answer fails or is made of two builds.

Steps of an ensemble name the version of their build. So the new version of every sub-model is loaded beside the one that serves; then
the new version of the ensemble takes the old one's place, which Triton does between two requests; and when the last request of the old
ensemble is answered, the old sub-models go. Whatever ends it in between leaves a server that answers from one build, and it can be done
again. The controller may act meanwhile: instances, and what it set, stay as they are.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from recsplit.configs import override
from recsplit.configs.check import parameter, parse, versions
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import BUILD_PARAMETER, CONFIG_FILE
from recsplit.repository.find import Build, build_of, text_of
from recsplit.serving.switching.alone import alone
from recsplit.serving.switching.model_control import ModelControl

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Switched:
    """A switch of `model` on one server: versions before and after (the same: nothing was to be done), and how long it took.

    `answering_s`: until the new build answered; `seconds`: until the old one was gone.
    """

    model: str
    grpc_url: str
    before: int
    after: int
    answering_s: float
    seconds: float


def switch(control: ModelControl, build: Build, progress: Progress, *, timeout_s: float = 300.0) -> Switched:
    """Let the server take `build`, whatever it serves. `timeout_s` bounds each of the three steps.

    Raises InputError where the server doesn't serve this repository's model, or can't serve both builds at once; RecsplitError where Triton
    refuses: the old build serves on then.
    """
    with ExitStack() as stack:
        for name in sorted((build.plan.name, *(model.name for model in build.plan.loaded))):
            stack.enter_context(alone(control.grpc_url, name, timeout_s))
        return _switch(control, build, progress, timeout_s)


def _switch(control: ModelControl, build: Build, progress: Progress, timeout_s: float) -> Switched:
    plan, begun = build.plan, time.monotonic()
    ensemble = control.config(plan.name)
    before, served_build = _served(ensemble, plan.name)
    new = {model.name: _rendered(build, model.name) for model in plan.loaded}
    if (before, served_build) == (plan.version, plan.build):
        _let_go(control, new, plan.version, timeout_s)  # what a switch that was ended left
        return Switched(plan.name, control.grpc_url, before, before, 0.0, time.monotonic() - begun)
    old = [step.model_name for step in ensemble.ensemble_scheduling.step]
    _refuse_impossible(build, before, served_build, old)

    progress(f"loading version {plan.version} beside version {before}")
    _load_beside(control, new, {name for name in new if name in old}, plan.version, before, timeout_s)
    progress(f"version {plan.version} takes the place of version {before}")
    load_rendered(control, build.repository, plan.name, timeout_s)
    answering_s = time.monotonic() - begun
    progress(f"version {before} answers its last requests")
    _await(lambda: control.served(plan.name) == {plan.version}, f"the last requests of version {before} were not answered", timeout_s)
    _let_go(control, new, plan.version, timeout_s)
    for name in old:
        if name not in new:  # a shard that the new build lacks
            control.unload(name, timeout_s)
    return Switched(plan.name, control.grpc_url, before, plan.version, answering_s, time.monotonic() - begun)


def load_rendered(control: ModelControl, repository: Path, name: str, timeout_s: float) -> None:
    """Load a model as the repository has it, in the place of what is loaded of it. Raises RecsplitError where Triton refuses."""
    config = json_format.MessageToJson(_read(repository / name / CONFIG_FILE), preserving_proto_field_name=True, indent=None)
    control.end(control.load(name, config, timeout_s))


def prefixed(progress: Progress, name: str) -> Progress:
    """`progress`, told of whom."""
    return lambda text: progress(f"{name}: {text}")


def _served(config: Any, name: str) -> tuple[int, str]:
    """Version and id of the build that an ensemble's config is of."""
    build, named = parameter(config, BUILD_PARAMETER), versions(config)
    if build is None or len(named) != 1:
        raise InputError(f"the server's model {name!r} is none that this recsplit built", hint="restart the server")
    return named[0], build


def _refuse_impossible(build: Build, before: int, served_build: str, old: list[str]) -> None:
    """Raise InputError where the old version can't be served beside the new one."""
    plan, repository = build.plan, build.repository
    if before == plan.version:
        raise InputError(
            f"the server runs another build as version {before} ({served_build}) than {repository} holds ({plan.build})",
            hint="restart the server: versions tell builds apart, and these two have one",
        )
    absent = [name for name in (plan.name, *old) if build_of(repository / name, before) != served_build]
    if absent:
        raise InputError(
            f"version {before}, which the server runs, is no longer in {repository}, and would have to serve on for a while",
            hint="restart the server; recsplit build --keep N keeps N builds",
        )
    for name in set(old) & {model.name for model in plan.loaded}:
        folder = repository / name
        before_config, after_config = (_read(place / CONFIG_FILE) for place in (folder / str(before), folder))
        for field in ("input", "output", "max_batch_size", "backend", "default_model_filename"):
            if getattr(before_config, field) != getattr(after_config, field):
                raise InputError(
                    f"{field} of {name!r} is another in version {plan.version} than in version {before}, and Triton has one config "
                    "for all versions of a model: it can't serve both while it switches",
                    hint="restart the server, or build under another --name and let clients move",
                )


def _rendered(build: Build, model: str) -> Any:
    path = build.repository / model / CONFIG_FILE
    return override.read(text_of(path), str(path))


def _read(path: Path) -> Any:
    return parse(text_of(path), origin=str(path))


def _load_beside(control: ModelControl, new: Mapping[str, Any], shared: set[str], version: int, before: int, timeout_s: float) -> None:
    """Load the new version of each sub-model, with as many instances as the old one has; where one fails, the others let go of theirs."""
    served = {name: control.beyond(name, before) if name in shared else override.served(config, ()) for name, config in new.items()}

    def load(name: str, versions: Sequence[int]) -> Any:
        return control.load(name, override.override(new[name], dataclasses.replace(served[name], versions=tuple(versions))), timeout_s)

    calls = [load(name, sorted((before, version)) if name in shared else (version,)) for name in new]
    failures: list[RecsplitError] = []
    for call in calls:
        try:
            control.end(call)
        except RecsplitError as error:
            failures.append(error)
    if failures:
        for name in shared:
            control.end(load(name, (before,)))
        for name in new.keys() - shared:
            control.unload(name, timeout_s)
        raise failures[0]


def _let_go(control: ModelControl, new: Mapping[str, Any], version: int, timeout_s: float) -> None:
    """Serve the new version of each sub-model alone."""
    calls = []
    for name, config in new.items():
        served = control.beyond(name, version)
        if served.versions != (version,):
            calls.append(control.load(name, override.override(config, dataclasses.replace(served, versions=(version,))), timeout_s))
    for call in calls:
        control.end(call)
    for name in new:
        _await(lambda name=name: control.served(name) == {version}, f"the old version of {name!r} did not end", timeout_s)  # type: ignore[misc]


def _await(condition: Callable[[], bool], problem: str, timeout_s: float) -> None:
    """Raises RecsplitError where it doesn't come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise RecsplitError(f"{problem} within {timeout_s:g} s", hint="do it again later: nothing is lost by that")
        time.sleep(0.02)
