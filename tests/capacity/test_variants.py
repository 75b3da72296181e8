"""Choosing among variants: as exhaustive search does. The paper's own case is in tests/perf/benchmarks/test_infadapter.py."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity.variants import Chosen, Objective, Size, Stage, Variant, choose, sizes, value
from recsplit.errors import InputError

pytest.importorskip("scipy")


def exhaustive(variants: Sequence[Variant], rate: float, cores: float, objective: Objective) -> float:
    """The best value of all combinations of sizes, with the queries given to the most accurate first; -inf where none carries them."""
    best = -math.inf
    for picked in itertools.product(*[(None, *variant.sizes) for variant in variants]):
        used = [size for size in picked if size is not None]
        if sum(size.cores for size in used) > cores + 1e-9 or sum(size.qps for size in used) < rate or not used:
            continue
        if objective.single and len(used) > 1:
            continue
        left, shares = 1.0, [0.0] * len(variants)
        for place in sorted(range(len(variants)), key=lambda place: -variants[place].accuracy):
            size = picked[place]
            shares[place] = 0.0 if size is None else min(left, size.qps / rate)
            left -= shares[place]
        best = max(best, value(variants, [Chosen(size, share) for size, share in zip(picked, shares, strict=True)], cores, objective))
    return best


def test_200_random_cases_are_as_exhaustive_search_has_them() -> None:
    rng = np.random.default_rng(17)
    carried = 0
    for case in range(200):
        cores = int(rng.integers(4, 13))
        variants = []
        for number in range(int(rng.integers(2, 5))):
            slope = float(rng.uniform(3, 30))
            counts = sorted(rng.choice(np.arange(1, cores + 1), size=min(cores, int(rng.integers(2, 6))), replace=False).tolist())
            present = float(rng.choice([0, *counts]))
            options = tuple(Size(float(n), slope * n * float(rng.uniform(0.8, 1.2))) for n in counts)
            load_s, in_place = float(rng.uniform(0, 12)), bool(rng.integers(2))
            variants.append(Variant(str(number), float(rng.uniform(0.6, 0.8)), options, load_s, present, in_place))
        objective = Objective(
            float(rng.uniform(0, 0.3)), float(rng.uniform(0, 0.02)), float(rng.choice([math.inf, 30, 120])), bool(rng.integers(2))
        )
        rate = float(rng.uniform(1, 400))
        choice, best = choose(variants, rate, cores, objective), exhaustive(variants, rate, cores, objective)
        assert choice.enough == (best > -math.inf), case
        assert choice.cores <= cores + 1e-6
        if choice.enough:
            carried += 1
            assert choice.value == pytest.approx(best, abs=1e-7), case
            assert sum(each.share for each in choice.chosen) == pytest.approx(1)
            for each in choice.chosen:
                assert each.share * rate <= (0 if each.size is None else each.size.qps) + 1e-6 * rate
    assert 50 < carried < 200, "both kinds of cases were met"


def test_where_nothing_carries_the_rate_the_most_is_run_and_shared_out_by_what_it_carries() -> None:
    variants = [Variant("exact", 0.8, (Size(2, 10), Size(4, 20))), Variant("small", 0.7, (Size(2, 30), Size(3, 45)))]
    choice = choose(variants, 500, 5, Objective())
    assert not choice.enough
    assert [each.size and each.size.cores for each in choice.chosen] == [2, 3]
    assert [each.share for each in choice.chosen] == pytest.approx([10 / 55, 45 / 55])


def test_without_queries_the_least_is_run() -> None:
    variants = [Variant("exact", 0.8, (Size(2, 10), Size(4, 20))), Variant("small", 0.79, (Size(1, 30),))]
    assert choose(variants, 0, 10, Objective(cost=0.5)).cores == 1


def test_a_change_costs_the_cores_that_run_twice() -> None:
    """Exact on 8 cores of 10 carries the rate; small would on 6. For as long as a choice is held the change has to pay for itself."""
    variants = [
        Variant("exact", 0.8, (Size(8, 100),), load_s=10, present=8),
        Variant("small", 0.798, (Size(6, 100),), load_s=10),
    ]
    held = [choose(variants, 100, 14, Objective(cost=0.05, loading=0, hold_s=hold_s)) for hold_s in (20.0, 600.0)]
    assert [choice.chosen[0].size is not None for choice in held] == [True, False]


def test_what_resizes_in_place_changes_for_nothing() -> None:
    in_place = Variant("exact", 0.8, (Size(2, 20), Size(4, 40)), load_s=10, present=2, in_place=True)
    assert not in_place.loads(in_place.sizes[1])
    assert Variant("exact", 0.8, in_place.sizes, load_s=10, in_place=True).loads(in_place.sizes[1]), "from nothing it is loaded"


@given(
    st.lists(st.tuples(st.integers(1, 4), st.floats(1, 50), st.integers(1, 5)), min_size=1, max_size=3),
    st.integers(1, 24),
)
def test_sizes_of_a_pipeline_are_the_least_cores_for_what_they_answer(stages: list[tuple[int, float, int]], cores: int) -> None:
    parts = [Stage(*stage) for stage in stages]
    smallest = sizes(parts, cores)
    for size in smallest:
        assert size.qps == pytest.approx(min(n * part.qps for n, part in zip(size.units, parts, strict=True)))
    for units in itertools.product(*[range(1, part.maximum + 1) for part in parts]):
        used = sum(n * part.cores for n, part in zip(units, parts, strict=True))
        if used <= cores:
            answered = min(n * part.qps for n, part in zip(units, parts, strict=True))
            assert any(size.cores <= used and size.qps >= answered * (1 - 1e-9) for size in smallest)


@pytest.mark.parametrize(
    ("variants", "rate", "cores"),
    [
        ([], 1, 1),
        ([Variant("a", 0.5, (Size(2, 1),))], 1, 1),
        ([Variant("a", 1.5, (Size(1, 1),))], 1, 4),
        ([Variant("a", 0.5, (Size(1, math.nan),))], 1, 4),
        ([Variant("a", 0.5, (Size(1, 1),), load_s=-1)], 1, 4),
        ([Variant("a", 0.5, (Size(1, 1),)), Variant("a", 0.5, (Size(1, 1),))], 1, 4),
        ([Variant("a", 0.5, (Size(1, 1),))], math.inf, 4),
    ],
)
def test_what_makes_no_sense_is_refused(variants: list[Variant], rate: float, cores: float) -> None:
    with pytest.raises(InputError):
        choose(variants, rate, cores, Objective())
