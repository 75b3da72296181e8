"""A fleet on one machine: front servers and the servers of each shard as Triton processes on loopback.

The front holds the ensemble, the embedding model, the dense model and the shards that are placed there; every other shard is a
remote model in it, which asks the shard's own servers. On the way out the fronts end first: they answer what is under way,
and need the shards for that.
"""

import contextlib
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from recsplit.configs.fleet import Asking
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from recsplit.serving import ports
from recsplit.serving.fleet.control import PartState, Requests
from recsplit.serving.fleet.member import Member
from recsplit.serving.fleet.placement import FRONT, Part, parts, write_front, write_shard
from recsplit.serving.server import Server, start

#: A server that ended by itself is started again; one that ends so often within so many seconds is broken, and so is the fleet.
_MOST_ENDS, _ENDS_S = 3, 60.0
_LOOK_S = 0.2
_WATCH_S = 0.5


@dataclass
class Fleet:
    """A running fleet; a context manager that stops it on the way out. `parts`: what was wished for, and what runs."""

    plan: Plan
    parts: tuple[Part, ...]
    members: tuple[Member, ...]
    host: str
    folder: Path
    ready_timeout_s: float
    control_key: str | None = field(default=None, repr=False)
    requests: Requests | None = None

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    @property
    def fronts(self) -> tuple[Server, ...]:
        """The servers that clients ask, those that run."""
        return tuple(member.server for member in self.members if member.part == FRONT and member.server is not None)

    @property
    def metrics_pages(self) -> list[tuple[str, str]]:
        """Part and metrics page of every server that shall run: one that ended by itself is among them, one that was drained isn't."""
        servers = [(member.part, member.server) for member in self.members]
        return [(part, server.metrics_url) for part, server in servers if server is not None and not server.running.stopping.is_set()]

    def member(self, part: str, number: int = 0) -> Member:
        """One server by part and replica. Raises InputError where there is none."""
        for member in self.members:
            if (member.part, member.number) == (part, number):
                return member
        raise InputError(f"the fleet has no replica {number} of {part!r}", hint=f"it has {', '.join(item.name for item in self.members)}")

    def scale(self, part: str, count: int) -> None:
        """Run `count` servers of a shard's part: start those that lack, drain the last ones. Fronts find out by themselves.

        Raises InputError for a part or count that the fleet wasn't made for, and what `serve` raises; what ran before then still does.
        """
        members = [member for member in self.members if member.part == part]
        if part == FRONT or not members:
            raise InputError(f"the servers of {part!r} can't be scaled", hint="only shards' can: clients choose their front themselves")
        if not 1 <= count <= len(members):
            raise InputError(f"{part!r} can't have {count} servers", hint=f"from 1 to {len(members)}; --most {part}=N allows for more")
        for member in members[:count]:
            if not member.running:
                self.start_member(member)
        _stop([member.server for member in members[count:] if member.running and member.server is not None])

    def answer_requests(self, notice: Callable[[str], None]) -> None:
        """Do what a controller asked for since the last time, and tell it what runs."""
        if self.requests is None:
            return
        for part in {member.part for member in self.members} - {FRONT}:
            self._tell(part)
        for part, asked in self.requests.new().items():
            error = None
            try:
                self.scale(part, asked.count)
                notice(f"{part}: {asked.count} servers, as the controller asks")
            except RecsplitError as failed:
                error = str(failed)
                notice(f"{part}: the controller asks for {asked.count} servers, and {error}")
            self._tell(part, number=asked.number, error=error)

    def _tell(self, part: str, **changes: Any) -> None:
        """Tell what runs of a part, and what else has changed."""
        assert self.requests is not None
        members = [member for member in self.members if member.part == part]
        before, kept = self.requests.done.get(part, PartState(0, 0, len(members))), sum(member.kept for member in members)
        self.requests.tell(part, dataclasses.replace(before, running=sum(member.running for member in members), kept=kept, **changes))

    def start_member(self, member: Member) -> Server:
        """Start one server, again or for the first time, on the ports that are its own; return when it is ready. Raises as `serve`."""
        if member.server is not None:
            member.server.stop()
        member.server = None
        server = self._launch(member)
        server.await_ready(self.ready_timeout_s)
        return server

    def drain(self, member: Member) -> None:
        """Stop one server: it takes no more requests, finishes those it has, and ends. Fronts ask the other replicas meanwhile."""
        if member.server is not None:
            member.server.stop()

    def wait(self, notice: Callable[[str], None]) -> None:
        """Keep the fleet whole until KeyboardInterrupt: a server that ended by itself is started again, and `notice` is told.

        An instance whose process died is replaced; where that fails, its server is started again. Raises RecsplitError, with the end of
        its log, where a server ends again and again.
        """
        looked_s = 0.0
        while True:
            if time.monotonic() - looked_s > _WATCH_S:
                for member in self.members:
                    if not member.look(notice):
                        self.start_member(member)
                looked_s = time.monotonic()
            for member in self.members:
                server = member.server
                if server is None or server.running.stopping.is_set() or server.running.process.poll() is None:
                    continue
                now = time.monotonic()
                member.ends_s = [*(at for at in member.ends_s if now - at < _ENDS_S), now]
                if len(member.ends_s) >= _MOST_ENDS:
                    _broken(member, server)
                notice(f"{member.name} ended by itself, and is started again")
                self.start_member(member)
                notice(f"{member.name} is back")
            self.answer_requests(notice)
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """End every server, fronts first, and leave nothing behind but named logs. Safe to repeat."""
        with contextlib.ExitStack() as stack:  # the shards are ended too, whatever happens while the fronts are
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            for fronts in (False, True):  # the last one in is the first one to run
                servers = [member.server for member in self.members if member.server is not None and (member.part == FRONT) == fronts]
                stack.callback(_stop, servers)

    def _launch(self, member: Member) -> Server:
        server = start(
            member.repository,
            models=(self.plan.name,) if member.part == FRONT else (self.plan.shards[int(member.part)].model.name,),
            http_port=member.ports["HTTP"],
            grpc_port=member.ports["gRPC"],
            metrics_port=member.ports["metrics"],
            host=self.host if member.part == FRONT else "127.0.0.1",
            log=member.log,
            control_key=self.control_key,
        )
        member.server = server
        return server


def serve_fleet(
    repository: Path,
    *,
    model: str | None = None,
    replicas: Mapping[str, int] | None = None,
    host: str = "127.0.0.1",
    logs: Path | None = None,
    ready_timeout_s: float = 120,
    asking: Asking | None = None,
    control_key: str | None = None,
    most: Mapping[str, int] | None = None,
) -> Fleet:
    """Start the fleet of a partitioned build and return when every server of it is ready.

    `model` names the ensemble where the repository holds several. `replicas`: servers by part, "front" or a shard's number; for the
    others the plan's, as far as this machine can run them (placement.parts). `logs`: a folder for one log a server, kept; without
    it logs are temporary. Fronts listen on `host`, shards on loopback only. `asking`: how fronts ask shards.
    `control_key`: every server's, as `serve` takes it. `most`: by shard, how many servers it may be given later (Fleet.scale, or a
    controller over the folder of `Fleet.requests`); fronts know their addresses from the beginning, and probe them.

    Raises InputError where the repository, or what is asked of it, can't be served as a fleet, and what `serve` raises for any of its
    servers. Nothing is left running then, nor after KeyboardInterrupt.
    """
    build = find(repository, model)
    plan = build.plan
    chosen = parts(plan, replicas or {})
    room = _room_for(chosen, most or {})
    if logs is not None:
        _make_folder(logs)
    folder = Path(tempfile.mkdtemp(prefix="recsplit-fleet-"))
    port_requests = {
        f"{part.name} {number} {kind}": None for part in chosen for number in range(room[part.name]) for kind in ("HTTP", "gRPC", "metrics")
    }
    members: list[Member] = []
    try:
        free = ports.choose("127.0.0.1", dict(port_requests))
        for part in chosen:
            for number in range(room[part.name]):
                member_ports = {kind: free[f"{part.name} {number} {kind}"] for kind in ("HTTP", "gRPC", "metrics")}
                place = folder / (FRONT if part.name == FRONT else f"shard_{part.name}")
                log = None if logs is None else logs / f"{place.name}_{number}.log"
                members.append(Member(part.name, number, place, member_ports, log))
        addresses = {part.name: [item.address for item in members if item.part == part.name] for part in chosen}
        for part in chosen:
            if part.name != FRONT:
                write_shard(repository, plan, int(part.name), folder / f"shard_{part.name}")
        write_front(repository, plan, addresses, folder / FRONT, asking or Asking())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    fleet = Fleet(plan, chosen, tuple(members), host, folder, ready_timeout_s, control_key, _requests(folder) if most else None)
    try:
        _start_all(fleet)
        fleet.answer_requests(lambda _: None)
    except BaseException:
        fleet.stop()
        raise
    return fleet


def _start_all(fleet: Fleet) -> None:
    """All shards, then the fronts: they look for replicas when they load, and one that found none would be ready before it can answer."""
    deadline = time.monotonic() + fleet.ready_timeout_s
    counts = {part.name: part.count for part in fleet.parts}
    first = [member for member in fleet.members if member.number < counts[member.part]]
    for fronts in (False, True):
        started = [(member, fleet._launch(member)) for member in first if (member.part == FRONT) == fronts]
        for member, server in started:
            try:
                server.await_ready(max(deadline - time.monotonic(), 1.0))
            except RecsplitError as error:
                raise _named(member, error) from error


def _room_for(chosen: Sequence[Part], most: Mapping[str, int]) -> dict[str, int]:
    """Servers that each part may have. Raises InputError for what `most` can't say."""
    room = {part.name: part.count for part in chosen}
    for name, count in most.items():
        if name == FRONT or name not in room:
            raise InputError(
                f"{name!r} can't be given more servers later", hint=f"the shards' parts are {', '.join(room.keys() - {FRONT})}"
            )
        if count < room[name]:
            raise InputError(f"at most {count} servers of {name!r} are less than the {room[name]} that it has", hint="--replicas has those")
        room[name] = count
    return room


def _requests(folder: Path) -> Requests:
    """What a controller asks for, in a folder that is ours alone as `folder` is."""
    control = folder / "control"
    control.mkdir(mode=0o700)
    return Requests(control)


def _broken(member: Member, server: Server) -> None:
    """Raise the error of a server that ended by itself."""
    try:
        server.wait()
    except RecsplitError as error:
        raise _named(member, error) from error


def _named(member: Member, error: RecsplitError) -> RecsplitError:
    return RecsplitError(f"{member.name}: {error}", hint=error.hint, detail=error.detail)


def _stop(servers: Sequence[Server]) -> None:
    """Stop servers, all at once; a second Ctrl-C kills those that are at it still."""
    with ThreadPoolExecutor(max(len(servers), 1)) as pool:
        stops = [pool.submit(server.stop) for server in servers]
        try:
            for stop in stops:
                stop.result()
        except BaseException:
            for server in servers:
                server.running.process.kill()
            raise


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} can't hold the logs: {error.strerror}", hint="give a folder that you can write to") from error
