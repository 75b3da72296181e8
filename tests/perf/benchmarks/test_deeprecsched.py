"""DeepRecSched's benchmark: the paper's setting against arithmetic, what is shown, and the quick search beside the tuner."""

from typing import Any

import pytest

from recsplit.capacity.arrivals import Poisson
from recsplit.capacity.batch_size import by_batch
from recsplit.capacity.profile import curve
from recsplit.capacity.search import Throughput
from recsplit.capacity.service import affine
from recsplit.capacity.sizes import Fixed
from recsplit.capacity.workload import LatencyBound
from recsplit.tuning.setting import Setting, Space
from recsplit_perf.benchmarks import tuner
from recsplit_perf.benchmarks.deeprecsched import contents, ours, paper, second
from tests.tuning.asked import about

pytest.importorskip("numba")
X = (1, 64, 1024)


def test_the_gain_of_a_large_batch_is_that_of_the_line() -> None:
    """Far below the bound's reach waiting is nothing, and forty cores do what their time allows: a / 25 + b over a / 200 + b."""
    evaluate = by_batch(affine(2.0, 0.02), paper.CORES, Fixed(200), Poisson(1.0), LatencyBound(1000.0, 95))
    gain = evaluate(200).rate / evaluate(25).rate
    assert gain == pytest.approx((2.0 / 25 + 0.02) / (2.0 / 200 + 0.02), rel=0.1)


def test_a_faster_second_target_takes_queries_and_a_slower_one_next_to_none() -> None:
    core, fast, slow = (curve(X, [[a + b * rows] * 3 for rows in X]) for a, b in ((2.0, 0.05), (0.5, 0.001), (50.0, 1.0)))
    away = second.threshold(core, fast, paper.SIZES["lognormal"], LatencyBound(25.0, 95), 256)
    assert away.climb.best.value <= 320 and away.rows_away > 0.02
    none = second.threshold(core, slow, paper.SIZES["lognormal"], LatencyBound(25.0, 95), 256)
    assert none.queries_away < 0.05, "a p95 doesn't mind who is late then"


def test_what_is_shown_names_every_model_and_holds_the_means() -> None:
    static, served = {"rate": 40.0}, {name: {"median": 10.0, "rates": [9.0, 11.0]} for name in ("static", "climbed", "joint")}
    climbed = {"best": 256, "rate": 90.0, "steps": [{"value": 25, "rate": 40.0}, {"value": 256, "rate": 90.0}]}
    choice = {"static": {"rate": 50.0}, "climbed": {"rate": 100.0}, "joint": {"rate": 120.0, "setting": "fused"}}
    laws = [(sizes, share) for sizes in paper.SIZES for share in paper.BOUNDS]
    model: dict[str, Any] = {
        "model": "wide",
        "bound_ms": 25.0,
        "torch": {"a_ms": 2.4, "b_ms": 0.04},
        "scheduled": [{"sizes": sizes, "bound_share": share, "gain": 2.25, "static": static, **climbed} for sizes, share in laws],
        "threshold": {"queries_away": 0.1, "rows_away": 0.2, **climbed},
        "forty_cores": [{"bound_share": share, **choice} for share in paper.BOUNDS],
        "live": [{"bound_share": share, **choice, "served": served} for share in paper.BOUNDS],
    }
    other = {**model, "scheduled": [{**each, "gain": None} for each in model["scheduled"]], "live": []}
    sections = contents.sections({"models": [model, other]})
    assert all(section.table is not None and any(row[0] == "wide" for row in section.table.rows) for section in sections)
    facts = contents.facts({"models": [model, other]})
    assert [fact.value for fact in facts] == ["2.25x", "1.20x", "1.00x"]
    assert "of 1 models" in facts[0].note, "where the static batch meets the bound at no rate there is no ratio"
    assert contents.sections({"models": [other]})[-1].title.startswith("All settings jointly")


def test_quick_search_climbs_to_a_top_and_asks_for_no_other_knob() -> None:
    space = Space(("ensemble", "fused"), (1, 2, 4), (1, 2), (32, 64, 128), (0, 500))

    def rate(setting: Setting) -> Throughput:
        return about(setting.embedding_instances + 2 * setting.dense_instances + setting.max_batch_size / 64)

    asked = tuner.quick_search(space, {setting: rate(setting) for setting in space.grid()})
    assert Setting("ensemble", 4, 4, 1, 128, 0) in asked
    assert all((setting.form, setting.threads, setting.queue_delay_us) == ("ensemble", 1, 0) for setting in asked)
    assert len(asked) < len(space)


def test_the_batch_of_a_workload_is_searched_by_the_three_rules() -> None:
    from tests.capacity.profiles import small

    present, space = Setting("ensemble", 1, 1, 1, 1024, 0), Space(("ensemble",), (1, 2), (1,), ours.BATCHES, (0,))
    choice = ours.chosen(small(), ours.workload_of("even", Fixed(100), 20.0), 2, present, space)
    assert choice.static.setting.max_batch_size == 500
    assert choice.joint.throughput.rate >= choice.climb.best.throughput.rate
    assert choice.evaluations <= ours.TRIALS
