"""A running server takes what its repository holds behind a router: new builds of the variants, variants that are new, and its settings."""

import dataclasses
import time
from pathlib import Path

from recsplit.errors import InputError
from recsplit.plan.routing import Routing
from recsplit.repository.find import Build, find
from recsplit.repository.routers import settings_of
from recsplit.serving import notes
from recsplit.serving.switching.model_control import ModelControl
from recsplit.serving.switching.switch import Progress, Switched, load_rendered, prefixed, switch
from recsplit.serving.workers import route, running_routing


def switch_behind(control: ModelControl, repository: Path, router: str, progress: Progress, *, timeout_s: float) -> tuple[Switched, ...]:
    """Switch the models that a router asks in its own server, load those that it lacks, and let the router do as its file says; the shares
    stay as they are for variants that it had, since a controller, or somebody, has set them.

    Raises what `switch` raises, and InputError where the server isn't one of this machine's.
    """
    folder = notes.folder_of(control.grpc_url)
    if folder is None:
        raise InputError(
            f"the router of the server at {control.grpc_url} can't be told from here",
            hint="on the machine of that server: recsplit update DIR",
        )
    routing = settings_of(repository, router)
    models = dict.fromkeys(server.model for variant in routing.variants for server in variant.servers if not server.address)
    loaded = {name for name, _ in control.ready()}
    switched = []
    for model in models:
        build = find(repository, model)
        said = prefixed(progress, model)
        switched.append(switch(control, build, said, timeout_s=timeout_s) if model in loaded else _first(control, build, said, timeout_s))
    if router not in loaded:
        load_rendered(control, repository, router, timeout_s)
        return tuple(switched)
    route(folder, router, _with_shares(routing, running_routing(folder, router)))
    return tuple(switched)


def _first(control: ModelControl, build: Build, progress: Progress, timeout_s: float) -> Switched:
    """Load a build of which the server has none."""
    begun = time.monotonic()
    progress(f"loading version {build.plan.version}")
    for name in (*(model.name for model in build.plan.loaded), build.plan.name):
        load_rendered(control, build.repository, name, timeout_s)
    seconds = time.monotonic() - begun
    return Switched(build.plan.name, control.grpc_url, 0, build.plan.version, seconds, seconds)


def _with_shares(routing: Routing, running: Routing) -> Routing:
    """The settings with the shares that run now; as they are where none of these variants has one."""
    weights = {variant.name: variant.weight for variant in running.variants}
    variants = tuple(dataclasses.replace(each, weight=weights.get(each.name, 0.0)) for each in routing.variants)
    return dataclasses.replace(routing, variants=variants) if any(each.weight > 0 for each in variants) else routing
