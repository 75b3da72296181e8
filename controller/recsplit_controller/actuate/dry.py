"""Acts on nothing, and tells what it would do: what another actuator reads is read, and its servers stay as they are."""

from collections.abc import Callable, Mapping
from typing import Any

from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count


class DryActuator:
    """An Actuator that reads through `reading`, and gives `tell` a sentence for each action that it doesn't do.

    Every action ends at once and well; as nothing follows from it, the loop asks again after a while, and that is told again.
    """

    def __init__(self, reading: Actuator, tell: Callable[[str], Any]) -> None:
        self._reading = reading
        self._tell = tell
        self._ended: list[Outcome] = []

    def counts(self) -> Mapping[str, Count]:
        """Counts, as the other actuator sees them."""
        return self._reading.counts()

    def begin(self, action: Action) -> None:
        """Tell what the action would be, and take it for done."""
        threads = "" if action.threads is None else f" of {action.threads} threads"
        would = {
            "scale": f"go to {action.count} units{threads}",
            "heal": f"replace all {action.count} units",
            "route": f"be sent requests by the weights of {action.count} units that serve",
        }
        self._tell(f"{action.target} would {would[action.kind]}: {action.reason}")
        self._ended.append(Outcome(action, None, 0.0))

    def outcomes(self) -> list[Outcome]:
        """The actions that were told since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def ill(self) -> Mapping[str, str]:
        """Dead units, as the other actuator sees them."""
        return self._reading.ill()

    def close(self) -> None:
        """Let go of the other actuator's connections."""
        self._reading.close()
