"""What the loop asks of whatever acts: Triton in place, a fleet of processes, Kubernetes, or nobody (a dry run)."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count


class Actuator(Protocol):
    """Acts without making the loop wait: an action is begun, runs beside the loop, and its outcome is collected later."""

    def counts(self) -> Mapping[str, Count]:
        """What there is of each target, and what was asked for. Within two seconds, and no exception where a server is away."""

    def begin(self, action: Action) -> None:
        """Start an action and return at once. One may be under way for each target; the loop sees to that."""

    def outcomes(self) -> Sequence[Outcome]:
        """The actions that ended since the last call, in their order."""

    def ill(self) -> Mapping[str, str]:
        """Targets whose units are dead though they are counted (a stub that died), each with the reason; the loop heals them."""

    def close(self) -> None:
        """Leave what is under way to the server, and let go of connections and threads."""
