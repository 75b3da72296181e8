"""What a tick costs: so much for each sub-model, and memory that stays as it is."""

from functools import partial

import pytest

from recsplit_perf.benchmarks.control_tick import measure
from tests.calls import calls


@pytest.mark.parametrize("policy", ["utilization", "latency", "elasticrec"])
def test_a_tick_costs_so_much_for_each_sub_model_and_no_square_of_them(policy: str) -> None:
    """In ms, with 200 of them: perf/results, by the benchmark itself."""
    calls_with_few, calls_with_many = (calls(partial(measure, policy, models=models, ticks=10)) for models in (10, 50))
    assert calls_with_many < 6 * calls_with_few, (calls_with_few, calls_with_many)


@pytest.mark.slow
def test_memory_is_flat_over_10_000_ticks() -> None:
    """In the first tenth, histories and caches fill; a leak of one float a tick and model would be 1 MB."""
    measurements = measure("utilization", models=4, ticks=10_000)
    early, late = measurements["resident_mb"][1], measurements["resident_mb"][-1]
    assert late - early < 1, measurements
