"""The paper's setting: forty one-core engines behind one queue; queries are cut into requests of at most a batch, which stay apart."""

from dataclasses import dataclass

from recsplit.capacity.arrivals import Poisson
from recsplit.capacity.batch_size import BATCHES, by_batch, static_batch
from recsplit.capacity.profile import Curve
from recsplit.capacity.search import Throughput
from recsplit.capacity.service import measured
from recsplit.capacity.sizes import HeavyTail, Kairos, Lognormal, Sizes
from recsplit.capacity.workload import LatencyBound
from recsplit.tuning.climb import Climb, climb

CORES = 40
#: DeepRecSys's own setting, what KAIROS made of its trace, and a heavier tail; the first is the one that its repository ships.
SIZES: dict[str, Sizes] = {"lognormal": Lognormal(5.1, 0.2), "KAIROS": Kairos(), "heavy tail": HeavyTail()}
FIRST = "lognormal"
#: Of a model's own bound.
BOUNDS = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Scheduled:
    """One model under one law of sizes and one bound: the climb from a batch of one, and the static batch."""

    sizes: str
    bound_share: float
    climb: Climb
    static: Throughput

    @property
    def gain(self) -> float | None:
        """The climb's best over the static batch; None where that one meets the bound at no rate."""
        return self.climb.best.throughput.rate / self.static.rate if self.static.rate > 0 else None


def scheduled(curve: Curve, bound_ms: float) -> list[Scheduled]:
    """DeepRecSched under every law and bound."""
    outcomes = []
    for name, sizes in SIZES.items():
        for share in BOUNDS:
            evaluate = by_batch(measured(curve), CORES, sizes, Poisson(1.0), LatencyBound(share * bound_ms, 95), seed=1)
            outcomes.append(Scheduled(name, share, climb(BATCHES, evaluate), evaluate(static_batch(CORES))))
    return outcomes
