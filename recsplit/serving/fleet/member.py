"""One server of a fleet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recsplit.serving.fleet.placement import FRONT
from recsplit.serving.server import Server


@dataclass
class Member:
    """One server of the fleet: replica `number` of part `part`. Its ports stay its own when it is started again."""

    part: str
    number: int
    repository: Path
    ports: Mapping[str, int]
    log: Path | None
    server: Server | None = None
    ends_s: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What people call it: "front 0", "shard 1 replica 0"."""
        return f"front {self.number}" if self.part == FRONT else f"shard {self.part} replica {self.number}"

    @property
    def running(self) -> bool:
        """Whether its server runs, ready or not: it neither ended by itself nor was it stopped."""
        return self.server is not None and not self.server.running.stopping.is_set() and self.server.running.process.poll() is None

    def state(self) -> str:
        """READY, LOADING, STOPPED (by us) or ENDED (by itself)."""
        if self.server is None or self.server.running.stopping.is_set():
            return "STOPPED"
        if self.server.running.process.poll() is not None:
            return "ENDED"
        return "READY" if self.server.ready() else "LOADING"
