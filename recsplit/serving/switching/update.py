"""Running servers taken to the build that their repository holds, after a new build or on the way back to an earlier one."""

import os
from pathlib import Path

from recsplit.errors import InputError
from recsplit.repository.find import ensemble_name, find
from recsplit.repository.kept import earlier, restore
from recsplit.repository.routers import router_of
from recsplit.repository.staging import locked
from recsplit.serving import notes
from recsplit.serving.switching.behind import switch_behind
from recsplit.serving.switching.model_control import ModelControl
from recsplit.serving.switching.switch import Progress, Switched, prefixed, switch


def update(
    repository: str | os.PathLike[str],
    model: str | None = None,
    *,
    grpc_url: str | None = None,
    control_key: str | None = None,
    timeout_s: float = 300.0,
    progress: Progress = lambda _: None,
) -> tuple[Switched, ...]:
    """Let running servers take the build that `repository` holds now, while they answer: none fails, and none is made of two builds.

    Of a router, which without `model` the only one in `repository` is: the models behind it, and what it does with queries (behind.py).

    Without `grpc_url`: every server of this user on this machine that recsplit serve runs on this folder, one after the other; their keys
    are known. `control_key` goes with the address of another one. `timeout_s` bounds each step of a switch. An empty result: no server.

    Raises InputError where there is no such build or server, or it can't serve both builds at once (restart it then); RecsplitError where
    Triton refuses. The old build serves on in both cases.
    """
    if control_key is not None and grpc_url is None:
        raise InputError("a control key is for one server, and none is named", hint="give its gRPC address too")
    folder = Path(repository)
    router = router_of(folder, model)
    build = None if router is not None else find(folder, model)
    if grpc_url is None:
        servers = [(note.grpc_url, note.key) for note in notes.serving(folder)]
    else:
        servers = [(grpc_url, notes.key_of(grpc_url) if control_key is None else control_key)]
    switched = []
    for url, key in servers:
        with ModelControl(url, key) as control:
            said = prefixed(progress, url)
            if build is not None:
                switched.append(switch(control, build, said, timeout_s=timeout_s))
            elif router is not None:
                switched += switch_behind(control, folder, router, said, timeout_s=timeout_s)
    return tuple(switched)


def rollback(
    repository: str | os.PathLike[str],
    model: str | None = None,
    *,
    version: int | None = None,
    grpc_url: str | None = None,
    control_key: str | None = None,
    timeout_s: float = 300.0,
    progress: Progress = lambda _: None,
) -> tuple[Switched, ...]:
    """Serve an earlier build that is kept in `repository` again, on the disk and then as `update` does: `version`, or the one before.

    Raises InputError where no such build is kept, and what `update` raises.
    """
    folder = Path(repository)
    name = ensemble_name(folder, model)
    with locked(folder):
        restore(folder, earlier(folder, name, version))
    return update(folder, name, grpc_url=grpc_url, control_key=control_key, timeout_s=timeout_s, progress=progress)
