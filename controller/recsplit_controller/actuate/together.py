"""Several actuators as one, each for its own targets: instances of Triton's beside workers of the engine."""

from collections.abc import Mapping

from recsplit.errors import InputError
from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count


class Together:
    """An Actuator of actuators; an action goes to the one that counts its target."""

    def __init__(self, actuators: Mapping[str, Actuator]) -> None:
        """`actuators`: by the names of their targets; one may stand for several."""
        self._by_target = dict(actuators)
        self._all = list({id(actuator): actuator for actuator in actuators.values()}.values())

    def counts(self) -> dict[str, Count]:
        """What each says of its own."""
        return {name: count for actuator in self._all for name, count in actuator.counts().items()}

    def begin(self, action: Action) -> None:
        """Hand it on. Raises InputError for a target that is nobody's."""
        if action.target not in self._by_target:
            raise InputError(f"{action.target!r} is no target here", hint=f"there are {', '.join(self._by_target)}")
        self._by_target[action.target].begin(action)

    def outcomes(self) -> list[Outcome]:
        """Of all."""
        return [outcome for actuator in self._all for outcome in actuator.outcomes()]

    def ill(self) -> dict[str, str]:
        """Of all."""
        return {name: reason for actuator in self._all for name, reason in actuator.ill().items()}

    def close(self) -> None:
        """All of them."""
        for actuator in self._all:
            actuator.close()
