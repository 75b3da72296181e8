"""What the tests of tuning share: a workload, throughputs, and a ledger's subject."""

import math

from recsplit.capacity.arrivals import Poisson
from recsplit.capacity.search import Throughput, Trial
from recsplit.capacity.sizes import Fixed
from recsplit.capacity.workload import LatencyBound, Workload
from recsplit.tuning.ledger import About
from recsplit.tuning.setting import Setting, Space

BOUND = LatencyBound(20.0, 95)
WORKLOAD = Workload("even", BOUND, Fixed(100), Poisson(50.0))
ABOUT = About("shop", "a1", WORKLOAD.describe(), 2)
PRESENT = Setting("ensemble", 1, 1, 1, 64, 0)
SPACE = Space(("ensemble", "fused"), (1, 2), (1, 2), (16, 32, 64), (0, 500))


def about(rate: float, spread: float = 0.02) -> Throughput:
    """A throughput with an interval of so much on either side, and trials that say the same."""
    low, high = rate * (1 - spread), rate * (1 + spread)
    return Throughput(rate, low, high, "found", (Trial(low, 0.9 * BOUND.bound_ms, 300), Trial(high, 1.1 * BOUND.bound_ms, 300)))


NEVER = Throughput(0.0, 0.0, 5.0, "bound unreachable", ())
ALWAYS = Throughput(80.0, 80.0, math.inf, "bound never exceeded", ())
