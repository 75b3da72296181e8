"""The benchmark of fleets against servers of the whole model."""

import dataclasses

from recsplit_perf.benchmarks import fleet
from recsplit_perf.benchmarks.fleet import Memory, Round

ROUND = Round(
    "fleet", {"8": 200.0, "16": 250.0}, {"8": 70.0, "16": 140.0}, 12.0, 36.0, 0, Memory(pss_bytes=10, apart_bytes=20, allocated_bytes=30)
)


def test_medians_of_the_rounds_count_and_every_failure() -> None:
    best = dataclasses.replace(
        ROUND, queries_per_s={"8": 300.0, "16": 310.0}, closed_p95_ms={"8": 50.0, "16": 100.0}, open_p50_ms=8.0, open_p95_ms=16.0
    )
    worst = dataclasses.replace(ROUND, queries_per_s={"8": 100.0, "16": 90.0}, open_p95_ms=99.0, open_failed=2, memory=Memory(90, 90, 30))
    assert fleet.summary([best, worst, ROUND]) == {
        "queries_per_s": {"8": 200.0, "16": 250.0},
        "closed_p95_ms": {"8": 70.0, "16": 140.0},
        "open_p50_ms": 12.0,
        "open_p95_ms": 36.0,
        "open_failed": 2,
        "memory": {"pss_bytes": 10, "apart_bytes": 20, "allocated_bytes": 30},
    }
