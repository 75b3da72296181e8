"""InfAdapter's evaluation again: acceptance rows I1 to I3 of the shared facts, and what the rules are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from recsplit.capacity.variants import Objective, choose
from recsplit.errors import InputError
from recsplit_perf.benchmarks.infadapter import adapter, kubernetes, ours
from recsplit_perf.benchmarks.infadapter.inputs import CORES, Line, Slice, lines, slices
from recsplit_perf.benchmarks.infadapter.player import Run, run
from recsplit_perf.benchmarks.infadapter.result import COSTS, OURS, PAPER, Result

pytest.importorskip("scipy")
DATA = Path(__file__).parents[4] / "shared/data/infadapter"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the authors' data isn't here")
#: The authors' lines of two variants, and ten minutes with a burst in them.
SMALL, LARGE = Line("18", 24.45, -6.17, 0.997), Line("152", 3.81, -2.25, 0.959)
RATES = np.concatenate([np.full(180, 30.0), np.full(240, 150.0), np.full(180, 30.0)])
SLICE = Slice("a test's", 86_400, RATES, np.full(86_400, 30.0))


@needs_data
def test_the_slopes_of_the_authors_measurements() -> None:  # I1
    assert [round(line.slope, 2) for line in lines(DATA)] == [24.45, 13.04, 10.32, 5.09, 3.81]


@needs_data
def test_14_cores_of_resnet_50_for_110_queries() -> None:  # I2
    variants = [line.variant() for line in lines(DATA)]
    choice = choose(variants, 110, CORES, Objective())
    chosen = {variant.name: each.size.cores for variant, each in zip(variants, choice.chosen, strict=True) if each.size is not None}
    assert chosen == {"50": 14}


@needs_data
def test_the_slice_of_the_trace() -> None:  # I3
    (burst,) = slices(DATA, ("burst",))
    assert (len(burst.rates), burst.rates.max(), round(float(burst.rates.mean()), 1)) == (1260, 274, 96.6)


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"capacity\.csv can't be read"):
        lines(tmp_path)
    (tmp_path / "capacity.csv").write_text("ARCH,CPU,SLA,capacity\n18,1,750,19\n")
    with pytest.raises(InputError, match="not all cores"):
        lines(tmp_path)


def test_the_adapter_switches_to_the_small_one_for_the_burst_and_back() -> None:
    played = run(adapter.adapter("paper", [SMALL, LARGE], SLICE, Objective(), "last_max"), SLICE)
    assert played.queries == RATES.sum()
    assert 0.2 < played.served_by["18"] / played.queries < 0.95
    assert played.cores <= 1.5 * CORES, "both deployments are there in a switch, and no longer"
    one = run(adapter.adapter("MS+", [SMALL, LARGE], SLICE, Objective(single=True), "last_max"), SLICE)
    assert one.served_by["18"] > 0, "and so does one variant at a time"


def test_the_controller_misses_less_and_takes_no_more() -> None:
    paper = run(adapter.adapter("paper", [SMALL, LARGE], SLICE, Objective(), "last_max"), SLICE)
    here = run(ours.controller([SMALL, LARGE], SLICE, 0.05), SLICE)
    assert here.queries == paper.queries
    assert here.missed < 0.5 * paper.missed and here.cores <= paper.cores


def test_a_vertical_autoscaler_knows_the_day_and_a_reactive_one_the_load() -> None:
    slow, fast = (run(kubernetes.vertical(SMALL, SLICE, reactive=reactive), SLICE) for reactive in (False, True))
    assert fast.missed < slow.missed and fast.cores > slow.cores
    horizontal = run(kubernetes.horizontal(SMALL, SLICE), SLICE)
    assert horizontal.missed < slow.missed


def test_points_that_the_curve_is_not_ahead_of_are_behind() -> None:
    """By a line between the controller's points, and nothing is said for it where it needs more cores."""
    base = Run("", "burst", 100, 0.02, 10.0, 0.03, {})
    theirs = [
        dataclasses.replace(base, rule=f"{PAPER}, cost {cost:g}", cores=cores)
        for cost, cores in zip(COSTS, (20, 18, 16, 14, 12, 10, 8, 1), strict=True)
    ]
    here = [
        dataclasses.replace(base, rule=f"{OURS}, cost {cost:g}", missed=0.01, lost=lost, cores=cores)
        for cost, (cores, lost) in zip(COSTS, [(20, 0.0)] * 4 + [(10, 0.02)] * 2 + [(8, 0.08), (5, 0.08)], strict=True)
    ]
    result = Result({}, (SMALL,), {}, {"burst": (1.0, 1.0, 0)}, {"burst": (*theirs, *here)})
    assert [point.cores for point in result.behind()] == [8, 1]
    assert result.at_cores("burst", 15) == pytest.approx((0.01, 0.01))
