"""Acts on recsplit's engine in one server of this machine: workers of its models come and go, at once and without a load."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from recsplit.errors import InputError, RecsplitError
from recsplit.serving import notes
from recsplit.serving.workers import CONTROL_SOCKET, set_workers, workers
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target


def has_engine(grpc_url: str) -> bool:
    """Whether the server at this address has an engine whose workers can be changed from here: recsplit serve started it."""
    folder = notes.folder_of(grpc_url)
    return folder is not None and (folder / CONTROL_SOCKET).exists()


def server_folder(grpc_url: str) -> Path:
    """The private folder of the server at this address. Raises RecsplitError where it is away."""
    folder = notes.folder_of(grpc_url)
    if folder is None:
        raise RecsplitError(f"the server at {grpc_url} is away")
    return folder


def done(action: Action, change: Callable[[], object]) -> Outcome:
    """How a change that takes a millisecond ended."""
    start, error = time.monotonic(), None
    try:
        change()
    except RecsplitError as failed:
        error = str(failed)
    return Outcome(action, error, time.monotonic() - start)


class WorkersActuator:
    """An Actuator for the models that the engine runs in the server at `grpc_url`; a target's name is its model's.

    The engine is asked through its socket in the server's private folder, which is looked up for each call: a server that is started
    again has another one.
    """

    def __init__(self, grpc_url: str, targets: Sequence[Target]) -> None:
        self._grpc_url = grpc_url
        self._models = {target.name: target.model for target in targets if target.unit == "worker"}
        self._outcomes: list[Outcome] = []  # a change has ended when `begin` returns

    def counts(self) -> dict[str, Count]:
        """Workers by target, as the engine has them; a change is done when it was asked for."""
        folder = notes.folder_of(self._grpc_url)
        try:
            counts = {} if folder is None else workers(folder)
        except RecsplitError:
            counts = {}
        return {name: Count.steady(counts.get(model)) for name, model in self._models.items()}

    def begin(self, action: Action) -> None:
        """Change the count, which takes a millisecond. Raises InputError for a target that isn't this server's."""
        if action.target not in self._models:
            raise InputError(f"{action.target!r} is no model of this server's engine", hint=f"it has {', '.join(self._models)}")
        self._outcomes.append(done(action, lambda: set_workers(server_folder(self._grpc_url), self._models[action.target], action.count)))

    def outcomes(self) -> list[Outcome]:
        """The actions that ended since the last call."""
        ended, self._outcomes = self._outcomes, []
        return ended

    def ill(self) -> dict[str, str]:
        """Nobody: workers are threads of the server, and live as long as it does."""
        return {}

    def close(self) -> None:
        """Nothing is held."""
