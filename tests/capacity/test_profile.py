"""Profiles: the fit, and the JSON."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity.profile import Fit, Profile, curve, fit, from_json, others_at_work, to_json
from recsplit.errors import InputError
from tests.capacity.profiles import small


def test_the_fit_of_elasticrecs_figure_9_is_the_published_line() -> None:
    """ElasticRec figure 9, dim 32: queries per second against gathers."""
    x = (1, 5, 10, 15, 20)
    line = fit(x, [[1000 / qps] for qps in (86.7, 56.5, 39.2, 30.2, 24.7)])
    assert line.a_ms == pytest.approx(10.0, rel=0.01)
    assert line.b_ms == pytest.approx(1.524, rel=0.01)
    assert line.r2 > 0.999
    assert 1000 / line.ms(100) == pytest.approx(6.2, rel=0.02)  # as plotted


@given(a=st.floats(0.01, 100), b=st.floats(1e-6, 10), x=st.sets(st.integers(1, 4096), min_size=2, max_size=12))
def test_points_on_a_line_give_the_line(a: float, b: float, x: set[int]) -> None:
    points = sorted(x)
    line = fit(points, [[a + b * value] * 3 for value in points])
    for value in points:
        assert line.ms(value) == pytest.approx(a + b * value, rel=1e-6)


def test_one_slow_sample_does_not_move_the_fit() -> None:
    x = (1, 8, 64)
    clean = [[1 + 0.1 * value] * 5 for value in x]
    assert fit(x, [[*samples[:-1], 50.0] for samples in clean]) == fit(x, clean)


def test_small_batches_are_not_drowned_by_large_ones() -> None:
    """2 % off at 2048 rows is more ms than all of a batch of one."""
    x = tuple(2**n for n in range(12))
    line = fit(x, [[(1 + 0.05 * value) * (1.02 if value == 2048 else 1)] for value in x])
    assert line.ms(1) == pytest.approx(1.05, rel=0.02)


def test_one_size_says_nothing_of_the_slope() -> None:
    assert fit([4], [[2.0, 2.5, 9.0]]) == Fit(2.5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("x", "samples"), [([], []), ([1, 2], [[1.0]]), ([1, 2], [[1.0], []]), ([1, 2], [[1.0], [0.0]]), ([2, 1], [[1.0], [1.0]])]
)
def test_what_is_no_curve_is_refused(x: list[int], samples: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"a fit needs|positive|rise"):
        curve(x, samples)


def test_a_profile_survives_its_json() -> None:
    assert from_json(to_json(small())) == small()


def test_medians_are_those_of_the_samples() -> None:
    part = small().part("embedding")
    assert part.alone.median_ms == tuple(np.median(part.alone.samples_ms, axis=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(schema=9), "has schema 9, and this recsplit reads schema 2"),
        (lambda data: data.pop("whole"), "expected the keys"),
        (lambda data: data.update(owner="me"), "expected the keys"),
        (lambda data: data.update(version="1"), "profile.json: version: expected"),
        (lambda data: data.update(overhead_ms=float("nan")), "overhead_ms"),
        (lambda data: data["parts"][0].update(role="sparse"), r"parts\[0\]: role"),
        (lambda data: data["whole"].update(x=[], samples_ms=[]), "a curve can't be used"),
        (lambda data: data["parts"][0]["alone"].update(x=[8, 1, 2]), "a curve can't be used"),
        (lambda data: data.update(cpu_ms=[1.0]), "cpu_ms needs one number"),
        (lambda data: data["whole"]["samples_ms"][0].insert(0, 1e-6), "a time of 1e-06 ms, and no server answers in less"),
        (lambda data: data["parts"][0]["alone"]["samples_ms"][1].append(-2.0), "a time of -2 ms"),
    ],
)
def test_a_profile_is_read_strictly(change, message: str) -> None:  # type: ignore[no-untyped-def]
    data = json.loads(to_json(small()))
    change(data)
    with pytest.raises(InputError, match=message) as raised:
        from_json(json.dumps(data))
    assert "measure it again" in raised.value.hint


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(InputError, match=r"it\.json is not JSON"):
        from_json("{", origin="it.json")


def test_a_part_that_is_not_there_is_named() -> None:
    profile: Profile = small(roles=("dense",))
    with pytest.raises(InputError, match="has no embedding model"):
        profile.part("embedding")


@pytest.mark.parametrize(("load", "told"), [(5.2, True), (2.0, False), (0.1, False)])
def test_a_machine_with_more_work_than_cores_is_told(load: float, told: bool) -> None:
    profile = dataclasses.replace(small(), provenance={"machine": {"cores": 2, "load_average": [load, 1.0, 1.0]}})
    warning = others_at_work(profile)
    assert (warning is not None) == told
    assert others_at_work(small()) is None
    if warning is not None:
        assert "5.2 processes were at work on 2 cores" in warning
