"""What the fault tests share: a heavy model under load on a real Triton, and a controller's loop beside it."""

import itertools
import py_compile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recsplit.capacity.arrivals import Poisson, draw
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.forecast import named
from recsplit_controller.observe.protocol import Observer
from recsplit_controller.shell.loop import Loop
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Tick
from recsplit_perf.traffic import open_loop, queries
from recsplit_perf.traffic.open_loop import Sent
from tests.waiting import until

NAME, MODEL = "shop", "shop_dense"
#: One instance answers 40 queries a second, so LOW needs one and HIGH three or more.
HEAVY_MS, LOW, HIGH = 25.0, 12.0, 75.0
TARGETS = (Target("shop_embedding", "shop_embedding", "embedding"), Target(MODEL, MODEL, "dense", maximum=5))
#: Quick, so that a test waits for seconds: delays are as many ticks as in earnest.
QUICK = Settings(forecaster="last_max", interval_s=0.5, downscale_delay_s=3.0, stale_s=4.0, period_s=2.0, bound_ms=150.0)
_LONGEST_S = 120.0
_HOOK = """

import os
import time as clock

import triton_python_backend_utils as pb_utils

Heavy = TritonPythonModel


class TritonPythonModel(Heavy):
    def initialize(self, args):
        if os.path.exists({refuse!r}):
            raise pb_utils.TritonModelException("no memory for one more")
        clock.sleep(3.0 if os.path.exists({slow!r}) else 0.0)
        super().initialize(args)
"""


@dataclass(frozen=True)
class Hooks:
    """Files that hinder new instances while they are there: `refuse` lets none start, `slow` lets each take 3 s."""

    refuse: Path
    slow: Path


def hinder(repository: Path, folder: Path) -> Hooks:
    """Give the heavy model of `repository` these hooks, in `folder`."""
    hooks = Hooks(folder / "refuse", folder / "slow")
    program = repository / MODEL / "1" / "model.py"
    program.write_text(program.read_text() + _HOOK.format(refuse=str(hooks.refuse), slow=str(hooks.slow)))
    py_compile.compile(str(program), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return hooks


@dataclass
class Kept:
    """The ticks of a loop."""

    records: list[Tick] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def show(self, record: Tick) -> None:
        self.records.append(record)

    def fail(self, reason: str) -> None:
        self.failures.append(reason)

    @property
    def last(self) -> Tick:
        return self.records[-1]

    def wanted(self, target: str = MODEL) -> int | None:
        return next(decision.wanted for decision in self.last.decisions if decision.target == target)

    def reason(self, target: str = MODEL) -> str:
        return next(decision.reason for decision in self.last.decisions if decision.target == target)

    def observed(self, target: str = MODEL) -> int | None:
        return self.last.observation.count(target).serving


@contextmanager
def controlled(observer: Observer, actuator: Actuator, targets: Sequence[Target] = TARGETS) -> Iterator[Kept]:
    """A controller's loop in a thread, until the end of the block."""
    kept, stop = Kept(), threading.Event()
    loop = Loop(QUICK, named(QUICK.forecaster), targets, observer, actuator, None, (kept,))
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        until(lambda: bool(kept.records), "the first tick")
        yield kept
    finally:
        stop.set()
        thread.join()
        actuator.close()
        observer.close()


@dataclass
class Asked:
    """Queries under way; `sent` is there once they have ended."""

    url: str
    sent: Sent | None = None
    error: BaseException | None = None

    @property
    def failed(self) -> int:
        assert self.sent is not None, self.error
        return int(np.isinf(self.sent.latency_ms).sum())

    @property
    def errors(self) -> Counter[str]:
        assert self.sent is not None, self.error
        return self.sent.errors

    def failed_between(self, first_s: float, last_s: float) -> int:
        """Failures of queries due between two moments in Unix time."""
        assert self.sent is not None, self.error
        due_s = self.sent.due_s + self.sent.began_s
        return int(np.isinf(self.sent.latency_ms[(due_s >= first_s) & (due_s < last_s)]).sum())


@contextmanager
def asked(url: str, plan: Plan, rate: float) -> Iterator[Asked]:
    """Poisson arrivals of `rate` queries a second at `url` (host:port of HTTP), until the end of the block."""
    pool = [queries.ready(plan, samples.rows(plan, 1, np.random.default_rng(seed))) for seed in range(20)]
    times_s = draw(Poisson(rate), _LONGEST_S, np.random.default_rng(5))
    choice = np.random.default_rng(6).integers(0, len(pool), len(times_s))
    state, stop = Asked(url), threading.Event()

    def work() -> None:
        try:
            state.sent = open_loop.send(url, pool, times_s, choice, warmup_s=0.0, seconds=_LONGEST_S, timeout_s=30.0, stop=stop)
        except BaseException as error:
            state.error = error

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield state
    finally:
        stop.set()
        thread.join()
    assert state.error is None, state.error


def lasts(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Look again and again: it holds all the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"no longer: {what}"
        time.sleep(0.05)


def steps(records: Sequence[Tick]) -> list[int]:
    """The counts that the heavy model was observed with, each change once."""
    counts = [record.observation.count(MODEL).serving for record in records]
    return [count for count, _ in itertools.groupby(count for count in counts if count is not None)]
