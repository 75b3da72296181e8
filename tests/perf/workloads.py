"""Workloads and runs for the tests of open-loop load."""

from typing import Any

import numpy as np

from recsplit.capacity import arrivals, sizes
from recsplit.capacity.workload import LatencyBound, Workload
from recsplit_perf.traffic.runs import Run

SMALL = Workload("small", LatencyBound(50.0, 95.0), sizes.Uniform(1, 9), arrivals.Constant(100.0))

TOML = """
name = "small"
[latency]
bound_ms = {bound_ms}
[sizes]
law = "uniform"
low = 1
high = 9
[arrivals]
process = "poisson"
rate = 60
[ids]
law = "zipf"
alpha = 1.1
"""


def run_with(latency_ms: Any, late_ms: Any = 0.0, **changes: Any) -> Run:
    """A run with these latencies, one query every 10 ms."""
    count = len(latency_ms)
    about = {"provenance": {"machine": {"cpu": "abacus"}, "versions": {}}, "workload": SMALL.describe(), "model": "tiny", "version": 1}
    arrays = {"sent_s": np.arange(count) / 100, "late_ms": np.broadcast_to(late_ms, count), "latency_ms": np.array(latency_ms, dtype=float)}
    rest = {"rate": 100.0, "seconds": count / 100, "query_rows": np.full(count, 5), "errors": {}}
    return Run(**{**about, **rest, **arrays, **changes})
