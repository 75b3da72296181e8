"""The replicas of one shard: which to ask, what to do when one does not answer, and when to ask it again.

A call goes to the replica with the fewest calls under way. One that fails a call is avoided until a probe finds it well again, and
the call goes to another, each once. With none left the call fails at once: nobody waits for a server that may not come back.
asyncio, one event loop; standard library only, so that whatever carries a call (see grpc_link.py) is the caller's.
"""

import asyncio
import ipaddress
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar


class Link(Protocol):
    """A connection to one replica, made without waiting; calls on it raise RefusedError where the server blames the request."""

    async def close(self) -> None:
        """End it; calls under way fail."""


L = TypeVar("L", bound=Link)
T = TypeVar("T")


class RefusedError(Exception):
    """The server found fault with the request: another replica would too, and this one is well."""


class NoReplicaError(Exception):
    """No replica answered; the text says what became of each that was asked."""


@dataclass(frozen=True)
class Settings:
    """How long to wait for one answer, when to ask a second replica beside the first (None: never), and when to look again.

    `attempts`: replicas that one call asks at most. `probe_s`: between two probes of a replica that is avoided. `resolve_s`:
    between two look-ups of host names.
    """

    timeout_s: float
    hedge_s: float | None
    attempts: int
    probe_s: float
    resolve_s: float


@dataclass
class Replica(Generic[L]):
    """One replica, and what was seen of it. `well`: not avoided. Counts only rise; `answered_s` is summed over answered calls."""

    address: str
    link: L
    well: bool = True
    problem: str = ""
    under_way: int = 0
    answered: int = 0
    failed: int = 0
    answered_s: float = 0.0
    probe: "asyncio.Task[None] | None" = None


@dataclass
class Counts:
    """Calls that were asked again elsewhere after a failure, or beside a slow answer; calls that failed altogether."""

    retries: int = 0
    hedges: int = 0
    lost: int = 0


@dataclass
class Replicas(Generic[L]):
    """All replicas of a shard. `addresses` are host:port; a name stands for every address it resolves to, looked up again and again.

    `connect` makes the link to an address; `probe` asks over it whether the replica is well, and raises where it isn't;
    `notice` is told, in a sentence, when a replica is avoided and when it is back.
    """

    addresses: Sequence[str]
    settings: Settings
    connect: Callable[[str], L]
    probe: Callable[[L], Awaitable[None]]
    notice: Callable[[str], None]
    known: dict[str, Replica[L]] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def open(self) -> None:
        """Find the replicas, and ask each once how it is: for at most one timeout. None need be there yet."""
        await self._resolve()
        self._background(self._resolve_again())
        for replica in self.known.values():
            self._avoid(replica, "not asked yet", quiet=True)
        probes = [replica.probe for replica in self.known.values() if replica.probe is not None]
        if probes:
            await asyncio.wait(probes, timeout=self.settings.timeout_s)

    async def answering(self, within_s: float) -> str | None:
        """Wait until a replica has answered a probe. None: one has; else why none had by then."""
        deadline = time.monotonic() + within_s
        while not any(replica.well for replica in self.known.values()):
            if time.monotonic() >= deadline:
                return self._nobody([])
            await asyncio.sleep(min(self.settings.probe_s, 0.2))
        return None

    async def close(self) -> None:
        """End probes and links."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(replica.link.close() for replica in self.known.values()), return_exceptions=True)
        self.known.clear()

    async def call(self, ask: Callable[[L], Coroutine[Any, Any, T]]) -> T:
        """The answer of one replica. Raises NoReplicaError where none gave one, RefusedError where one found fault with the request."""
        running: set[asyncio.Task[T]] = set()
        asked: list[Replica[L]] = []
        hedge = False
        try:
            while True:
                replica = self._choose(asked) if hedge or not running else None
                if replica is not None:
                    if asked:
                        self.counts.retries += not hedge
                        self.counts.hedges += hedge
                    asked.append(replica)
                    running.add(asyncio.create_task(self._ask(replica, ask)))
                elif not running:
                    self.counts.lost += 1
                    raise NoReplicaError(self._nobody(asked))
                patience = self.settings.hedge_s if len(asked) == 1 and not hedge else None
                done, running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                hedge = not done
                for task in done:
                    if (error := task.exception()) is None:
                        return task.result()
                    if isinstance(error, RefusedError):
                        raise error
        finally:
            for task in running:
                task.cancel()

    def _choose(self, asked: Sequence[Replica[L]]) -> Replica[L] | None:
        """The well replica with the fewest calls under way, in turn where several have; None where all were asked or are avoided."""
        if len(asked) >= self.settings.attempts:
            return None
        well = [replica for replica in self.known.values() if replica.well and replica not in asked]
        if not well:
            return None
        fewest = min(replica.under_way for replica in well)
        idle = [replica for replica in well if replica.under_way == fewest]
        return idle[next(self._turn) % len(idle)]

    async def _ask(self, replica: Replica[L], ask: Callable[[L], Coroutine[Any, Any, T]]) -> T:
        replica.under_way += 1
        start = time.monotonic()
        try:
            answer = await asyncio.wait_for(ask(replica.link), self.settings.timeout_s)
        except RefusedError:
            raise
        except asyncio.TimeoutError:
            self._avoid(replica, f"no answer within {self.settings.timeout_s:g} s")
            raise
        except Exception as error:
            self._avoid(replica, str(error) or type(error).__name__)
            raise
        finally:
            replica.under_way -= 1
        replica.answered += 1
        replica.answered_s += time.monotonic() - start
        return answer

    def _avoid(self, replica: Replica[L], problem: str, *, quiet: bool = False) -> None:
        if not quiet:
            replica.failed += 1
        replica.problem = problem
        if replica.well and not quiet:
            self.notice(f"replica {replica.address} is avoided: {problem}")
        replica.well = False
        if replica.probe is None or replica.probe.done():
            replica.probe = self._background(self._until_well(replica, quiet=quiet))

    async def _until_well(self, replica: Replica[L], *, quiet: bool) -> None:
        """Probe until it answers, or is gone from the name's addresses."""
        while self.known.get(replica.address) is replica:
            try:
                await asyncio.wait_for(self.probe(replica.link), self.settings.timeout_s)
            except asyncio.TimeoutError:
                replica.problem = f"no answer within {self.settings.timeout_s:g} s"
            except Exception as error:  # whatever the link raises: it is not well yet
                replica.problem = str(error) or type(error).__name__
            else:
                replica.well = True
                if not quiet:
                    self.notice(f"replica {replica.address} is back")
                return
            quiet = False  # it did not answer when it was first looked for: say when it does
            await asyncio.sleep(self.settings.probe_s)

    def _nobody(self, asked: Sequence[Replica[L]]) -> str:
        if not self.known:
            return f"no replica found at {', '.join(self.addresses)}"
        problems = {replica.address: replica.problem for replica in (*asked, *self.known.values()) if replica.problem}
        return "no replica answers: " + "; ".join(f"{address}: {problem}" for address, problem in problems.items())

    async def _resolve_again(self) -> None:
        """Follow host names as their addresses change; numeric addresses don't."""
        if all(_numeric(address) for address in self.addresses):
            return
        while True:
            await asyncio.sleep(self.settings.resolve_s)
            await self._resolve()

    async def _resolve(self) -> None:
        resolved_addresses: dict[str, None] = {}
        for address in self.addresses:
            if _numeric(address):
                resolved_addresses[address] = None
                continue
            host, _, port = address.rpartition(":")
            try:
                infos = await asyncio.get_running_loop().getaddrinfo(host, int(port), family=2)  # IPv4, as Triton listens
            except OSError:
                if not self.known:
                    self.notice(f"{address} can't be resolved yet")
                return  # keep those known: a failed look-up is no reason to drop servers that answer
            resolved_addresses.update(dict.fromkeys(f"{info[4][0]!s}:{port}" for info in infos))
        for address in resolved_addresses:
            if address not in self.known:
                self.known[address] = Replica(address, self.connect(address))
        for address in [address for address in self.known if address not in resolved_addresses]:
            self._background(self._leave(self.known.pop(address)))

    async def _leave(self, replica: Replica[L]) -> None:
        """Close a replica that is asked no more, once its last answer is there."""
        deadline = time.monotonic() + self.settings.timeout_s
        while replica.under_way and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await replica.link.close()

    def _background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _numeric(address: str) -> bool:
    try:
        ipaddress.ip_address(address.rpartition(":")[0])
    except ValueError:
        return False
    return True
