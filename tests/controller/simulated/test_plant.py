"""Simulated servers: queueing theory holds in it, and the controller's own code keeps it at the right size."""

from typing import Any

import numpy as np
import pytest

from recsplit_controller.forecast import named
from recsplit_controller.simulated import fifo
from recsplit_controller.simulated.plant import Part, Plant
from recsplit_controller.simulated.play import controlled, fixed, play
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.decision import Action
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Settings, Target

TARGET = Target("dense", "dense", "dense", maximum=40)
BOUND_MS = 200.0


def scale(count: int, at_s: float) -> Action:
    return Action("scale", "dense", count, at_s, "because")


def plant_of(units: Units, count: int) -> Plant:
    return Plant([Part(TARGET, units, count)], bound_ms=BOUND_MS)


def drawn(works: Any) -> Any:
    return np.stack([works, np.zeros(len(works))])


def test_waits_are_those_of_erlangs_formula() -> None:
    units, service_s, rate, seconds = 4, 0.04, 80.0, 20_000
    load = rate * service_s
    blocked = 1.0
    for count in range(1, units + 1):
        blocked = load * blocked / (count + load * blocked)
    wait_s = units * blocked / (units - load * (1 - blocked)) * service_s / (units - load)
    rng = np.random.default_rng(1)
    due_s = np.sort(rng.random(rng.poisson(rate * seconds)) * seconds)
    plant = plant_of(Units(spread=1.0, window_s=seconds), units)
    plant.advance(due_s, plant.draw(len(due_s), rng), seconds)
    series = plant.observe(seconds).of("dense")
    assert series.waiting == pytest.approx(rate * wait_s, rel=0.1)
    assert series.busy == pytest.approx(load, rel=0.02)
    assert series.mean_ms == pytest.approx(1000 * (wait_s + service_s), rel=0.05)


def test_a_new_unit_takes_what_waits_as_soon_as_it_serves() -> None:
    plant = plant_of(Units(service_s=1.0, start_s=2.0), 1)
    plant.advance(np.zeros(6), drawn(np.ones(6)), 1.0)
    assert plant.observe(1.0).of("dense").pending == 5
    plant.begin(scale(2, 1.0))
    assert plant.counts() == {"dense": Count(1, 2)} and not plant.outcomes()
    plant.advance(np.zeros(0), drawn(np.zeros(0)), 3.0)
    assert plant.counts() == {"dense": Count(2, 2)} and len(plant.outcomes()) == 1
    plant.advance(np.zeros(0), drawn(np.zeros(0)), 4.0)
    assert plant.served == 5  # four by the first unit, one by the second
    assert plant.unit_s == 1 + 2 + 2 + 2


def test_units_that_still_start_are_let_go_first_and_queries_under_way_end() -> None:
    plant = plant_of(Units(service_s=1.0, start_s=10.0), 2)
    plant.advance(np.array([0.9, 0.95]), drawn(np.ones(2)), 1.0)
    plant.begin(scale(4, 1.0))
    plant.begin(scale(2, 1.0))
    assert plant.counts() == {"dense": Count(2, 2)}
    plant.begin(scale(1, 1.0))
    plant.advance(np.zeros(0), drawn(np.zeros(0)), 2.0)
    assert plant.served == 2


def test_nothing_seen_is_not_zero() -> None:
    plant = plant_of(Units(), 1)
    assert plant.observe(0.0).data_s is None and plant.observe(0.0).problems
    plant.advance(np.zeros(0), drawn(np.zeros(0)), 5.0)
    series = plant.observe(5.0).of("dense")
    assert series.requests == 0 and series.p95_ms is None and series.mean_ms is None


def test_plain_python_serves_as_the_compiled_code_does() -> None:
    compiled = getattr(fifo.serve, "py_func", None)
    if compiled is None:
        pytest.skip("numba is not installed: there is only one way")
    rng = np.random.default_rng(0)
    due_s, service_s = np.sort(rng.random(200)), rng.random(200) / 20
    results = []
    for function in (fifo.serve, compiled):
        free_s, begun_s = np.zeros(3), np.zeros(200)
        count = function(free_s, due_s, service_s, 0.7, begun_s)
        results.append((count, free_s.tolist(), begun_s[:count].tolist()))
    assert results[0] == results[1] and 0 < results[0][0] < 200


STEP = np.concatenate([np.full(300, 50.0), np.full(600, 200.0), np.full(900, 50.0)])


@pytest.mark.parametrize("policy", ["utilization", "latency"])
def test_a_load_of_four_times_and_back_is_followed(policy: str) -> None:
    settings = Settings(policy=policy, bound_ms=BOUND_MS)
    played = play(STEP, [Part(TARGET, count=4)], controlled(settings, named(settings.forecaster), (TARGET,)), bound_ms=BOUND_MS)
    tick = settings.interval_s
    assert played.queries == STEP.sum()
    assert played.units[int(330 / tick) : int(900 / tick)].min() * 0.85 > 200 * 0.04  # within half a minute, and no flapping below
    assert played.missed[-1] == played.missed[int(345 / tick)], "misses end with the queue of the first moments"
    assert played.units[-1] * 0.04 <= played.units[int(600 / tick)] * 0.04 / 2, "what is not needed is given up"


def test_a_rise_that_goes_on_is_followed_step_by_step() -> None:
    rising = np.linspace(50, 350, 120)
    rule = controlled(Settings(), named("seasonal"), (TARGET,))
    played = play(np.concatenate([np.full(60, 50.0), rising, np.full(60, 350.0)]), [Part(TARGET, count=4)], rule, bound_ms=BOUND_MS)
    assert played.units[-1] >= 350 * 0.04 / 0.85
    assert played.miss_share < 0.1


def test_every_rule_meets_the_same_queries_and_a_run_repeats() -> None:
    few, many = (play(STEP, [Part(TARGET, Units(spread=0.5), count)], fixed, bound_ms=BOUND_MS) for count in (4, 20))
    again = play(STEP, [Part(TARGET, Units(spread=0.5), 4)], fixed, bound_ms=BOUND_MS)
    assert few.queries == many.queries == again.queries
    assert few.misses == again.misses > 1000 and many.misses < 10
    assert few.mean_units == 4 and many.unit_s == 20 * len(STEP)


def coming(count: int, first_s: float, rng: np.random.Generator) -> Any:
    """When so many queries come, in the ten seconds from `first_s` on."""
    return np.sort(first_s + 10 * rng.random(count))


LOOKUPS = Target("embedding", "embedding", "embedding", maximum=40)


def test_a_query_runs_all_steps_one_after_the_other() -> None:
    """The second step is due when the first ends; a queue in front of the first is none in front of the second."""
    plant = Plant([Part(LOOKUPS, Units(service_s=1.0), 1), Part(TARGET, Units(service_s=0.5), 1)], bound_ms=2000.0)
    plant.advance(np.zeros(3), plant.draw(3, np.random.default_rng(0)), 2.25)
    seen = plant.observe(2.25)
    assert (seen.of("embedding").pending, seen.of("dense").pending) == (0, 0)
    assert plant.left()[0] == 2 and plant.served == 1, "one has ended after 1.5 s, one is in the second step, one in the first"
    plant.advance(np.zeros(0), plant.draw(0, np.random.default_rng(0)), 4.0)
    assert plant.served == 3 and plant.misses == 2, "after 1.5, 2.5 and 3.5 s"
    assert plant.observe(4.0).of("whole").mean_ms == pytest.approx(2500)


def test_a_step_behind_a_full_one_gets_what_that_lets_through() -> None:
    plant = Plant([Part(LOOKUPS, Units(service_s=0.1), 1), Part(TARGET, Units(service_s=0.01), 1)], bound_ms=2000.0)
    rng = np.random.default_rng(0)
    plant.advance(coming(500, 0.0, rng), plant.draw(500, rng), 10.0)
    seen = plant.observe(10.0)
    assert seen.of("dense").requests == pytest.approx(10, rel=0.05)
    assert seen.of("embedding").busy == pytest.approx(1.0, abs=0.02) and seen.of("dense").busy == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("policy", ["utilization", "latency", "elasticrec"])
def test_both_steps_follow_a_load(policy: str) -> None:
    settings = Settings(policy=policy, bound_ms=BOUND_MS)
    parts = [Part(LOOKUPS, Units(0.01, 0.5), 2), Part(TARGET, Units(0.04, 0.5), 4)]
    rule = controlled(settings, named(settings.forecaster), [LOOKUPS, TARGET])
    played = play(STEP, parts, rule, bound_ms=BOUND_MS)
    high = slice(int(345 / settings.interval_s), int(900 / settings.interval_s))
    assert played.by_target["dense"][high].min() * 0.95 > 200 * 0.04 and played.by_target["embedding"][high].min() * 0.95 > 200 * 0.01
    assert played.missed[high.stop] - played.missed[high.start] <= 0.02 * 200 * 555


def test_a_router_shares_queries_out_by_weights_and_nothing_goes_to_none() -> None:
    variants = [Target(name, name, "front", "replica", 0, group="shop") for name in ("one", "other")]
    plant = Plant([Part(variants[0], Units(0.001), 2, 0.75), Part(variants[1], Units(0.001), 2, 0.25)], bound_ms=100.0)
    rng = np.random.default_rng(0)
    plant.advance(coming(8000, 0.0, rng), plant.draw(8000, rng), 10.0)
    seen, counts = plant.observe(10.0), plant.counts()
    assert seen.of("one").requests == pytest.approx(600, rel=0.05) and seen.of("other").requests == pytest.approx(200, rel=0.1)
    assert counts["one"].weight == 0.75
    plant.begin(Action("route", "shop", 4, 10.0, "because", weights={"one": 0.0, "other": 1.0}))
    plant.begin(Action("scale", "one", 0, 10.0, "because"))
    assert len(plant.outcomes()) == 2
    plant.advance(coming(8000, 10.0, rng), plant.draw(8000, rng), 20.0)
    assert (plant.observe(20.0).of("one").requests or 0) < 1, "those under way end"
    assert plant.counts()["one"] == Count(0, 0, weight=0.0)
    assert plant.served + plant.left()[0] == 16_000
