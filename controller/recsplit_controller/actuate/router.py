"""Acts on a router of recsplit's engine and the models behind it, in one server of this machine: workers, and shares of the queries."""

import dataclasses
from collections.abc import Mapping, Sequence

from recsplit.errors import RecsplitError
from recsplit.plan.routing import Routing
from recsplit.serving.workers import route, running_routing
from recsplit_controller.actuate.workers import WorkersActuator, done, server_folder
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target


class RouterActuator:
    """An Actuator for the group of the router's name, whose targets are the router's variants; their workers are WorkersActuator's.

    What the router does is asked of it at every call: whoever else changes it is seen.
    """

    def __init__(self, grpc_url: str, router: str, targets: Sequence[Target]) -> None:
        self._grpc_url, self._router = grpc_url, router
        self._workers = WorkersActuator(grpc_url, targets)
        self._outcomes: list[Outcome] = []

    def counts(self) -> dict[str, Count]:
        """Workers by target, and the router's share for each; None where it doesn't answer."""
        try:
            routing = self._routing()
            total = sum(variant.weight for variant in routing.variants)
            weights = {variant.name: variant.weight / total for variant in routing.variants}
        except RecsplitError:
            weights = {}
        return {name: dataclasses.replace(count, weight=weights.get(name)) for name, count in self._workers.counts().items()}

    def begin(self, action: Action) -> None:
        """Change workers or shares, which takes a millisecond. Raises InputError for a target that isn't here."""
        if action.kind != "route":
            self._workers.begin(action)
            return
        self._outcomes.append(done(action, lambda: self._share(action.weights or {})))

    def outcomes(self) -> list[Outcome]:
        """The actions that ended since the last call."""
        ended, self._outcomes = self._outcomes, []
        return [*ended, *self._workers.outcomes()]

    def ill(self) -> dict[str, str]:
        """Nobody."""
        return {}

    def close(self) -> None:
        """Nothing is held."""

    def _share(self, weights: Mapping[str, float]) -> None:
        routing = self._routing()
        variants = tuple(dataclasses.replace(variant, weight=weights.get(variant.name, variant.weight)) for variant in routing.variants)
        route(server_folder(self._grpc_url), self._router, dataclasses.replace(routing, variants=variants))

    def _routing(self) -> Routing:
        return running_routing(server_folder(self._grpc_url), self._router)
