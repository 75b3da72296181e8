"""What the loop asks of whatever sees: Prometheus, or the servers' own metrics pages."""

from typing import Protocol

from recsplit_controller.values.observation import Observation


class Observer(Protocol):
    """Gives an observation without counts, which are the actuator's to tell (`dataclasses.replace`)."""

    def observe(self, at_s: float) -> Observation:
        """What is seen now. Never an exception for a server that is away, slow or wrong: then `problems` says so, and values are None."""

    def close(self) -> None:
        """Let go of connections."""
