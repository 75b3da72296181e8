"""What a tick costs: processor time with 200 sub-models, and memory that stays as it is."""

import pytest

from recsplit_perf.benchmarks.control_tick import measure


@pytest.mark.parametrize("policy", ["utilization", "latency", "elasticrec"])
def test_a_tick_with_200_sub_models_takes_less_than_100_ms_of_processor_time(policy: str) -> None:
    assert measure(policy, models=200, ticks=20)["p50_ms"] < 100


@pytest.mark.slow
def test_memory_is_flat_over_10_000_ticks() -> None:
    """In the first tenth, histories and caches fill; a leak of one float a tick and model would be 1 MB."""
    measurements = measure("utilization", models=4, ticks=10_000)
    early, late = measurements["resident_mb"][1], measurements["resident_mb"][-1]
    assert late - early < 1, measurements
