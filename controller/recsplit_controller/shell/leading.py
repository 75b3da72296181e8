"""Whether this controller may act now: it asks its lease before every tick, and shows and logs what changes."""

import logging

from recsplit_controller.lease.protocol import Renewed
from recsplit_controller.shell.metrics import Meters

_LOG = logging.getLogger(__name__)


class Leading:
    """Say whether `lease` is held; for Loop.may. A lease that was lost counts as a failure in `meters`, one that is waited for doesn't."""

    def __init__(self, lease: Renewed, meters: Meters) -> None:
        self._lease, self._meters = lease, meters
        self._told: str | None = ""

    def __call__(self) -> bool:
        """Hold the lease; whether that went well."""
        refused = self._lease.hold()
        lost = refused is not None and self._meters.leads
        self._meters.lead(refused is None)
        if lost:
            self._meters.lost_lease()
        if refused != self._told:
            if refused is None:
                _LOG.info("this controller acts")
            else:
                _LOG.warning("the lease was lost" if lost else "waiting for the lease", extra={"fields": {"why": refused}})
        self._told = refused
        return refused is None
