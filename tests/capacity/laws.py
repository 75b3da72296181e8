"""Laws and processes for the tests of workloads, one of each kind."""

import numpy as np

from recsplit.capacity import arrivals, ids, sizes

SIZES: list[sizes.Sizes] = [
    sizes.Fixed(7),
    sizes.Normal(165, 16),
    sizes.Lognormal(5.1, 0.2),
    sizes.Uniform(),
    sizes.Kairos(),
    sizes.Ribbon(),
    sizes.HeavyTail(),
    sizes.FromFile("sizes.txt", np.array([1, 5, 5, 900])),
]
ARRIVALS: list[arrivals.Arrivals] = [
    arrivals.Constant(40),
    arrivals.Poisson(40),
    arrivals.PoissonGap(40),
    arrivals.Bursts(40, burst=3, on_s=0.5, off_s=1.5),
    arrivals.Bursts(40, burst=4, on_s=0.5, off_s=1.5),  # nothing at all between bursts
    arrivals.Diurnal(40, amplitude=0.9, period_s=5),
    arrivals.Trace("trace.txt", np.array([0, 10, 70, 0, 120]), rate=40),
]
SKEWS: list[ids.Skew] = [ids.Uniform(), ids.Zipf(0), ids.Zipf(0.7), ids.Zipf(1), ids.Zipf(1.2), ids.TwoLevel(0.9), ids.TwoLevel(0.5, 0.01)]
