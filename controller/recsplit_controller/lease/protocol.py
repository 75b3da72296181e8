"""What the loop asks of a lease that has to be held."""

from typing import Protocol


class Renewed(Protocol):
    """A lease that runs out unless it is held again every tick."""

    def hold(self) -> str | None:
        """None: it is held. Else why not, in words."""
