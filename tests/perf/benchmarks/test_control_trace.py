"""The trace benchmark, on a short trace: costs are made equal, and the controller keeps its promise against Kubernetes' rule."""

from pathlib import Path

import pytest

from recsplit_controller.forecast import trace
from recsplit_perf.benchmarks import control_trace

BURSTS = Path("perf/scenarios/half-hourly-bursts.txt")


def test_misses_at_a_cost_lie_between_those_of_the_aims_around_it() -> None:
    curve = [(4.0, 999.0), (6.0, 9.0)]
    assert control_trace.interpolated(curve, 4) == pytest.approx(999)
    assert control_trace.interpolated(curve, 5) == pytest.approx(99)
    assert control_trace.interpolated(curve, 6.1) is None


def test_the_controller_misses_at_most_half_as_often_as_kubernetes_rule_at_equal_cost() -> None:
    kept: list[int] = []
    rows = control_trace.rules(trace.read(BURSTS), 1, [("utilization", "last_max", 0.55)], (6, 7, 8), lambda rows: kept.append(len(rows)))
    assert kept == list(range(1, len(rows) + 1))
    ours = [row for row in rows if row["rule"].startswith("controller")]
    assert [row["instances come"] for row in ours] == ["in place", "pod"]
    for row in ours:
        others = [other for other in rows if other["rule"] in control_trace.KUBERNETES and other["instances come"] == row["instances come"]]
        for name in control_trace.KUBERNETES:
            curve = sorted((other["mean instances"], other["misses"]) for other in others if other["rule"] == name)
            misses = control_trace.interpolated(curve, max(row["mean instances"], curve[0][0]))  # on bursts it can't be as cheap
            assert misses is not None and row["misses"] <= misses / 2, (row, curve)
        static = [other["misses"] for other in rows if other["rule"] == "static" and other["mean instances"] <= row["mean instances"] + 1]
        assert row["misses"] < min(static) / 2, "an instance more than it had in the mean, and never another count"


def test_on_pods_that_take_long_the_controller_never_asks_for_what_it_did_with_one_count() -> None:
    rows = control_trace.pods(trace.read(BURSTS), 1)
    assert {row["instances come"] for row in rows} == set(control_trace.PODS)
    by_run = {(row["rule"], row["instances come"]): row for row in rows}
    for (rule, come), row in by_run.items():
        if rule.startswith("controller") and not rule.endswith("merged"):
            merged = by_run[f"{rule}, counts merged", come]
            assert row["most instances"] <= merged["most instances"], (rule, come)
            assert row["mean instances"] <= merged["mean instances"] + 0.1, (rule, come)
    assert max(row["most instances"] for rule, row in ((rule, row) for (rule, _), row in by_run.items()) if rule.endswith("merged")) == 40
