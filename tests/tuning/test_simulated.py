"""Settings by the simulator, on a made-up profile."""

import dataclasses

import numpy as np
import pytest

from recsplit.capacity.simulate import simulate
from recsplit.capacity.sizes import Fixed
from recsplit.tuning.setting import Setting
from recsplit.tuning.simulated import evaluator, pools
from tests.capacity.profiles import small
from tests.tuning.asked import PRESENT, WORKLOAD

pytest.importorskip("numba")


def alone_ms(setting: Setting, rows: int) -> float:
    """The median latency of queries that find an idle server."""
    run = simulate(pools(small(), setting), np.arange(2000) * 1.0, np.full(2000, rows), split_rows=setting.max_batch_size)
    return float(np.median(run.latency_ms))


def test_the_measured_server_takes_what_was_measured() -> None:
    profile = small()
    assert alone_ms(PRESENT, 64) == pytest.approx(profile.whole.median_ms[-1], rel=0.06)


def test_the_fused_model_does_both_parts_in_one() -> None:
    assert alone_ms(dataclasses.replace(PRESENT, form="fused"), 64) == pytest.approx(alone_ms(PRESENT, 64), rel=0.03)
    assert [pool.name for pool in pools(small(), dataclasses.replace(PRESENT, form="fused"))][-1] == "fused"


def test_threads_share_the_rows_of_a_batch() -> None:
    """0.4 + 0.02 and 0.3 + 0.01 ms a row, and half a millisecond around them: two threads do 64 rows in the time of 32."""
    two = alone_ms(dataclasses.replace(PRESENT, threads=2), 64)
    assert two == pytest.approx(0.5 + 0.4 + 0.02 * 32 + 0.3 + 0.01 * 32, rel=0.05)
    assert alone_ms(dataclasses.replace(PRESENT, threads=2), 1) == pytest.approx(alone_ms(PRESENT, 1), rel=0.02)


def test_more_cores_and_instances_serve_more() -> None:
    evaluate = evaluator(small(), WORKLOAD, 4, queries=4000)
    one, four = evaluate(PRESENT), evaluate(Setting("ensemble", 4, 4, 1, 64, 0))
    assert four.low > 1.5 * one.high


def test_the_same_seed_says_the_same() -> None:
    assert evaluator(small(), WORKLOAD, 2, queries=2000)(PRESENT) == evaluator(small(), WORKLOAD, 2, queries=2000)(PRESENT)


def test_a_bound_that_nothing_meets_has_no_rate() -> None:
    asked = dataclasses.replace(WORKLOAD, latency=dataclasses.replace(WORKLOAD.latency, bound_ms=0.1), sizes=Fixed(64))
    throughput = evaluator(small(), asked, 2, queries=2000)(PRESENT)
    assert (throughput.rate, throughput.verdict) == (0.0, "bound unreachable")
