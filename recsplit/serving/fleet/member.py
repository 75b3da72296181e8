"""One server of a fleet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recsplit.errors import RecsplitError
from recsplit.serving.fleet.placement import FRONT, Address
from recsplit.serving.server import Server
from recsplit.serving.upkeep.watch import Watch


@dataclass
class Member:
    """One server of the fleet: replica `number` of part `part`. Its ports stay its own when it is started again."""

    part: str
    number: int
    repository: Path
    ports: Mapping[str, int]
    log: Path | None
    server: Server | None = None
    watch: Watch | None = None
    ends_s: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What people call it: "front 0", "shard 1 replica 0"."""
        return f"front {self.number}" if self.part == FRONT else f"shard {self.part} replica {self.number}"

    @property
    def address(self) -> Address:
        """Where it listens, whether it runs or not."""
        return Address(f"127.0.0.1:{self.ports['HTTP']}", f"127.0.0.1:{self.ports['gRPC']}")

    @property
    def kept(self) -> bool:
        """Whether it shall run: one that ended by itself is started again."""
        return self.server is not None and not self.server.running.stopping.is_set()

    @property
    def running(self) -> bool:
        """Whether its server runs, ready or not: it neither ended by itself nor was it stopped."""
        return self.kept and self.server is not None and self.server.running.process.poll() is None

    def look(self, notice: Callable[[str], None]) -> bool:
        """Replace the instances of a running server whose processes died; False where that failed, and it has to be started again."""
        server = self.server
        if server is None or not self.running:
            return True
        if self.watch is None or self.watch.folder != server.running.folder.name:
            self.watch = Watch.over(server, self.repository, lambda text: notice(f"{self.name}: {text}"))
        try:
            self.watch.look()
        except RecsplitError as error:
            notice(f"{self.name}: {error}; it is started again")
            return False
        return True

    def state(self) -> str:
        """READY, LOADING, STOPPED (by us) or ENDED (by itself)."""
        if self.server is None or self.server.running.stopping.is_set():
            return "STOPPED"
        if self.server.running.process.poll() is not None:
            return "ENDED"
        return "READY" if self.server.ready() else "LOADING"
