"""In a cluster one controller acts and the others wait: a Lease (coordination.k8s.io/v1), as Kubernetes' own controllers have them.

It is renewed once a tick, so a loop that hangs loses it. Whether it has run out is told by this machine's clock alone, from when it was
last seen to change: clocks of two machines may differ.
"""

import contextlib
import logging
import math
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from recsplit_controller.actuate.cluster import Answer, Cluster, ClusterError

_LOG = logging.getLogger(__name__)

COORDINATION = "coordination.k8s.io/v1"
#: Without being renewed for so long, a lease is free; no less than so many ticks.
DURATION_S = 15.0
DURATION_TICKS = 4
#: A holder that can't renew stops acting after this share of the duration, before anyone else may begin.
HOLDS_SHARE = 2 / 3
#: Who holds the lease isn't known: the cluster is away, or the Lease says nonsense.
_UNKNOWN = (ClusterError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Seen:
    """A lease as it was read: who holds it ("": nobody), for how many seconds, how often it changed hands, since when this holder
    has it, and the version that a change must name."""

    holder: str
    duration_s: float
    transitions: int
    acquired: str | None
    version: str


def seen(lease: Answer) -> Seen:
    """What a Lease object says; fields that are absent are as in one that nobody has held yet. Raises KeyError, TypeError, ValueError or
    AttributeError where it says nonsense."""
    spec, metadata = lease.get("spec") or {}, lease["metadata"]
    duration_s = float(spec.get("leaseDurationSeconds") or DURATION_S)
    if not 0 < duration_s < math.inf:
        raise ValueError(f"it lasts {duration_s:g} s")
    return Seen(
        str(spec.get("holderIdentity") or ""),
        duration_s,
        int(spec.get("leaseTransitions") or 0),
        spec.get("acquireTime"),
        str(metadata["resourceVersion"]),
    )


def free(lease: Seen, unchanged_s: float) -> bool:
    """Whether anyone may take it: nobody has it, or it was not renewed for longer than it lasts, by the reader's own clock."""
    return not lease.holder or unchanged_s > lease.duration_s


class KubernetesLease:
    """The Lease `name` in the cluster's namespace, for one controller of this name, "<host>_<random>". `interval_s`: from tick to tick.

    `clock` gives seconds that only ever grow; `today` the date and time, which others read and nobody reckons with.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        interval_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self.duration_s = max(DURATION_S, DURATION_TICKS * interval_s)
        self._cluster, self._name, self._clock, self._today = cluster, name, clock, today
        self._last: Seen | None = None
        self._changed_s = 0.0
        self._renewed_s: float | None = None

    def hold(self) -> str | None:
        """Take or renew it. None: it is held, and this controller may act. Else why not, in words. To be asked once a tick."""
        began_s = self._clock()
        try:
            refused = self._cluster.run(self._hold())
        except _UNKNOWN as error:
            if self._renewed_s is not None and began_s - self._renewed_s < HOLDS_SHARE * self.duration_s:
                _LOG.warning("the lease could not be renewed", extra={"fields": {"lease": self._name, "why": _words(error)}})
                return None
            refused = f"the lease {self._name} can't be renewed: {_words(error)}"
        # It counts from before it was asked for: another reads it no earlier.
        self._renewed_s = began_s if refused is None else None
        return refused

    async def _hold(self) -> str | None:
        try:
            answer = await self._cluster.ask("GET", COORDINATION, f"leases/{self._name}")
        except ClusterError as error:
            if error.status != 404:
                raise
            return await self._write(None)
        lease, now_s = seen(answer), self._clock()
        if self._last is None or lease.version != self._last.version:
            self._last, self._changed_s = lease, now_s
        if lease.holder == self.identity or free(lease, now_s - self._changed_s):
            return await self._write(lease)
        return f"{lease.holder} holds the lease {self._name}"

    async def _write(self, lease: Seen | None) -> str | None:
        """Put this controller into the Lease that was read, or make one; someone who is faster wins."""
        spec: dict[str, object] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self.duration_s),
            "renewTime": self._moment(),
            "acquireTime": self._moment(),
            "leaseTransitions": 0,
        }
        try:
            if lease is None:
                body = {"apiVersion": COORDINATION, "kind": "Lease", "metadata": {"name": self._name}, "spec": spec}
                await self._cluster.ask("POST", COORDINATION, "leases", body)
            else:
                if lease.holder == self.identity:
                    spec |= {"acquireTime": lease.acquired or self._moment(), "leaseTransitions": lease.transitions}
                else:
                    spec["leaseTransitions"] = lease.transitions + 1
                await self._change(spec, lease.version)
        except ClusterError as error:
            if error.status == 409:
                return f"another controller was faster to take the lease {self._name}"
            raise
        return None

    async def _change(self, spec: Mapping[str, object], version: str) -> None:
        """Change what was read as this version; labels of others stay. Raises ClusterError, with status 409 where it changed since."""
        await self._cluster.ask("PATCH", COORDINATION, f"leases/{self._name}", {"metadata": {"resourceVersion": version}, "spec": spec})

    def _moment(self) -> str:
        return self._today().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def release(self) -> None:
        """Give it back, so that another needn't wait until it runs out. Safe to repeat; a cluster that is away doesn't matter."""
        if self._renewed_s is not None:
            self._renewed_s = None
            with contextlib.suppress(*_UNKNOWN):
                self._cluster.run(self._release())

    async def _release(self) -> None:
        lease = seen(await self._cluster.ask("GET", COORDINATION, f"leases/{self._name}"))
        if lease.holder == self.identity:
            spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._moment(), "leaseTransitions": lease.transitions}
            await self._change(spec, lease.version)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ClusterError) else f"it can't be read: {type(error).__name__}: {error}"
