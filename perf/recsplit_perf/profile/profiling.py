"""Measuring a profile: each sub-model alone and the whole ensemble, on a server of its own, in rounds.

Every round goes through all curves and sizes once, so that what else the machine does falls on all of them alike, and so that
a measurement that is broken off after some rounds has them all, with fewer samples. Service times are the server's own
(Triton's batch_stats), one execution at a time; latencies are the client's.
"""

import itertools
import math
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import ids
from recsplit.capacity.profile import Curve, PartProfile, Profile, curve
from recsplit.errors import InputError
from recsplit.plan.files import MODEL_FILE
from recsplit.plan.plan import Plan, Submodel
from recsplit.repository.find import Build
from recsplit.serving import serve
from recsplit_perf.machine import provenance
from recsplit_perf.processes import kernel
from recsplit_perf.profile.neighbour import Neighbour, neighbour
from recsplit_perf.profile.profile_points import Point, asked, gathers, sizes
from recsplit_perf.traffic.closed_http import Closed
from recsplit_perf.traffic.wire import Wire

#: What the neighbour runs at a time.
NEIGHBOUR_ROWS = 64
FEWEST, MOST = 2, 50  # samples of one point in one round
FLOOD = 12  # queries, at the least, to tell Triton's own processor time from
AT_ONCE = 4
WARMING = 3
#: Before a query of the whole: those of a load find threads and cores asleep, and waking them is part of the latency.
PAUSE_S = 0.005
ASKING_MS = 1.0  # about what it takes to read the statistics after each execution


def measure(
    build: Build,
    *,
    seconds: float = 60.0,
    rounds: int = 5,
    law: ids.Skew | None = None,
    seed: int = 0,
    started: Callable[[], None] = lambda: None,
    advance: Callable[[int], None] = lambda _: None,
) -> Profile:
    """Serve a build and measure it for about `seconds` (more where executions are long: each point gets FEWEST samples a round).

    Ids follow `law`, uniform by default. `started` is called before the first round, `advance` with 1 after every round and size.
    After a KeyboardInterrupt the profile holds what was measured until then; it is raised again where that is no curve yet.
    Raises RecsplitError where the server can't be started or refuses.
    """
    origin, plan = provenance(), build.plan
    if not plan.loaded:
        raise InputError(f"{plan.name!r} is one model of the engine, and a profile is of parts", hint="build it with --form ensemble")
    rng = np.random.default_rng(seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recsplit-profile-")))
        server = stack.enter_context(serve(build.repository, models=[plan.name]))
        wire = stack.enter_context(Wire(server.grpc_url))
        closed = stack.enter_context(Closed(server.http_url, AT_ONCE))
        load_s = _load_times(wire, plan)
        points = [asked(wire, plan, rows, law or ids.Uniform(), rng) for rows in sizes(plan.max_batch_size)]
        runner = _Runner(wire, closed, plan, server.pid, seconds / rounds / len(points), stack, folder, build.repository)
        done = 0
        try:
            runner.begin(points, 10 * seconds + 600)
            started()
            for _ in range(rounds):
                for point in points:
                    runner.once(point)
                    advance(1)
                done += 1
        except KeyboardInterrupt:
            if not runner.whole or not all(runner.busy[part.name] for part in plan.submodels):
                raise
        pss = _memory(server.pid, plan)
    measured = {"rounds": done, "asked_rounds": rounds, "seconds": seconds, "seed": seed, "ids": (law or ids.Uniform()).law}
    return _profile(plan, {**origin, "measured": measured}, runner, points, load_s, pss, gathers(plan, law or ids.Uniform(), rng))


class _Runner:
    """What was measured so far: samples in ms by rows, for the whole and by sub-model."""

    def __init__(
        self, wire: Wire, closed: Closed, plan: Plan, group: int, budget_s: float, stack: ExitStack, folder: Path, repository: Path
    ) -> None:
        self.whole: dict[int, list[float]] = defaultdict(list)
        self.cpu: dict[int, list[float]] = defaultdict(list)
        self.busy: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.seen: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.contended: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.cores: dict[str, list[float]] = defaultdict(list)
        self._wire, self._closed, self._plan, self._group, self._budget_s = wire, closed, plan, group, budget_s
        self._stack, self._folder, self._repository = stack, folder, repository
        self._cores = sorted(os.sched_getaffinity(0))
        self._neighbours: dict[str, Neighbour] = {}

    def begin(self, points: list[Point], seconds: float) -> None:
        """Ask for everything once, and start the neighbours, where there is a core for them."""
        for point in points:
            for requests in (point.whole, *point.parts.values()):
                self._wire.ask(requests[0])
        if len(self._cores) > 1:
            near = min(points, key=lambda point: abs(point.rows - NEIGHBOUR_ROWS))
            for part in self._plan.submodels:
                model = self._repository / part.name / str(self._plan.version) / MODEL_FILE
                inputs = {tensor.name: _as_model_takes(near.inputs[part.name][tensor.name], tensor.dims) for tensor in part.inputs}
                started = neighbour(model, inputs, self._cores[-1], seconds, self._folder)
                self._neighbours[part.name] = self._stack.enter_context(started)

    def once(self, point: Point) -> None:
        """One round at one size. What a Ctrl-C breaks off is left out."""
        owners = _owners(self._group, self._plan)
        pids = [pid for members in owners.values() for pid in members]
        first_ms = self._closed.latency_ms(point.http[0])
        count = self._count(first_ms + 1e3 * PAUSE_S)
        messages = itertools.islice(itertools.cycle(point.http), count)
        latency_ms = [self._closed.latency_ms(message, pause_s=PAUSE_S) for message in messages]
        flooded = max(count, FLOOD)
        start_s = kernel.cpu_s([self._group]) + time.process_time()
        self._closed.flood(point.http, flooded)
        self.cpu[point.rows].append(1e3 * (kernel.cpu_s([self._group]) + time.process_time() - start_s) / flooded)
        self.whole[point.rows] += latency_ms
        for part in self._plan.submodels:
            requests = point.parts[part.name]
            count = self._count(self._wire.latency_ms(requests[0]) + ASKING_MS)
            with _pinned(pids, set(self._cores[:-1])):
                self._warm(requests)
                start_s = kernel.cpu_s(owners[part.name])
                busy_ms, seen_ms = self._wire.timed(part.name, requests, count)
                self.cores[part.name].append(1e3 * (kernel.cpu_s(owners[part.name]) - start_s) / math.fsum(busy_ms))
                self.busy[part.name][point.rows] += busy_ms
                self.seen[part.name][point.rows] += seen_ms
                if part.name in self._neighbours:
                    with self._neighbours[part.name].busy():
                        self._warm(requests)
                        busy_ms, _ = self._wire.timed(part.name, requests, count)
                    self.contended[part.name][point.rows] += busy_ms

    def _warm(self, requests: list[bytes]) -> None:
        """After threads moved to other cores caches are cold, and what is measured in few samples is an instance at work."""
        for message in requests[:WARMING]:
            self._wire.ask(message)

    def _count(self, each_ms: float) -> int:
        """Samples that fit into this point's share of the time: the whole and each part have the same."""
        return min(max(int(1e3 * self._budget_s / (1 + len(self._plan.submodels)) / each_ms), FEWEST), MOST)


@contextmanager
def _pinned(pids: list[int], cores: set[int]) -> Iterator[None]:
    """The server and this process on `cores` only, where there are any."""
    everywhere = os.sched_getaffinity(0)
    if cores:
        kernel.pin([*pids, os.getpid()], cores)
    try:
        yield
    finally:
        if cores:
            kernel.pin([*pids, os.getpid()], everywhere)


def _as_model_takes(array: NDArray[Any], dims: tuple[int, ...]) -> NDArray[Any]:
    """One number a row travels as [batch, 1], and the model itself takes [batch]."""
    return array if dims else array.reshape(len(array))


def _load_times(wire: Wire, plan: Plan) -> dict[str, float]:
    """Unload everything, load it again: seconds for each sub-model."""
    for name in (plan.name, *(part.name for part in plan.submodels)):
        wire.unload(name)
    load_s = {part.name: wire.load_s(part.name) for part in plan.submodels}
    wire.load_s(plan.name)
    return load_s


def _owners(group: int, plan: Plan) -> dict[str, list[int]]:
    """Process ids by sub-model; "" is the server itself. Triton gives a stub the instance's name, such as shop_dense_0_0."""
    pids_by_model: dict[str, list[int]] = {**{part.name: list[int]() for part in plan.submodels}, "": []}
    for pid, arguments in kernel.members(group).items():
        names = {argument.rsplit("_", 2)[0] for argument in arguments}
        pids_by_model[next((name for name in pids_by_model if name in names), "")].append(pid)
    return pids_by_model


def _memory(group: int, plan: Plan) -> dict[str, int]:
    """PSS of these, in bytes."""
    return {name: sum(map(kernel.pss_bytes, pids)) for name, pids in _owners(group, plan).items()}


def _curve(times_ms: dict[int, list[float]]) -> Curve:
    return curve(sorted(times_ms), [times_ms[rows] for rows in sorted(times_ms)])


def _profile(
    plan: Plan,
    origin: dict[str, Any],
    runner: _Runner,
    points: list[Point],
    load_s: dict[str, float],
    pss: dict[str, int],
    gathers: float,
) -> Profile:
    def part(model: Submodel) -> PartProfile:
        contended = runner.contended[model.name]
        return PartProfile(
            name=model.name,
            role=model.role,
            instances=model.instances,
            threads=model.threads,
            alone=_curve(runner.busy[model.name]),
            contended=_curve(contended) if contended else None,
            client=_curve(runner.seen[model.name]),
            cores=round(statistics.median(runner.cores[model.name]), 4),
            pss_bytes=pss[model.name],
            load_s=load_s[model.name],
        )

    whole = _curve(runner.whole)
    parts = tuple(part(model) for model in plan.submodels)
    last = points[-1]
    return Profile(
        model=plan.name,
        version=plan.version,
        build=plan.build,
        max_batch_size=plan.max_batch_size,
        queue_delay_us=plan.queue_delay_us,
        provenance=origin,
        parts=parts,
        whole=whole,
        cpu_ms=tuple(statistics.median(runner.cpu[rows]) for rows in whole.x),
        overhead_ms=max(whole.median_ms[0] - math.fsum(submodel.alone.median_ms[0] for submodel in parts), 0.0),
        request_bytes_per_row=len(last.whole[0]) / last.rows,
        response_bytes_per_row=last.response_bytes / last.rows,
        gathers_per_row=gathers,
        server_pss_bytes=pss[""],
    )
