"""From metrics pages to series: what is known, what isn't, and resets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit_controller.observe.page import Page, Reader
from recsplit_controller.observe.series import series
from recsplit_controller.values.observation import Series
from tests.controller.observe.pages import page


def pages(*totals: dict[str, float], remote: tuple[str, ...] = ()) -> list[Page]:
    """A server's pages of model "shop_dense", five seconds apart."""
    return [Reader().read(page({"shop_dense": values}, remote=remote), at_s=5.0 * number) for number, values in enumerate(totals)]


def test_rates_are_differences_over_the_window() -> None:
    server = pages(
        {"request_success": 100, "exec_count": 50, "count": 1000, "compute_infer_duration_us": 0, "queue_duration_us": 0},
        {
            "request_success": 200,
            "exec_count": 75,
            "count": 2000,
            "request_duration_us": 3e6,
            "queue_duration_us": 1e6,
            "compute_infer_duration_us": 2e6,
            "pending_request_count": 3,
            "p95_us": 40_000,
        },
    )
    seen = series([server], "shop_dense")
    assert (seen.requests, seen.rows, seen.executions, seen.failures) == (20, 200, 5, 0)
    # 2 s of compute in 5 s, told of every request; four requests an execution: a tenth of an instance.
    assert seen.busy == pytest.approx(0.1)
    assert (seen.waiting, seen.pending, seen.mean_ms) == (0.2, 3, 30)
    assert (seen.p50_ms, seen.p95_ms, seen.p99_ms, seen.offered) == (40, 40, 40, None)


def test_the_engines_workers_are_counted_by_their_own_time_and_one_model_of_it_has_its_own_queue() -> None:
    server = pages(
        {"request_success": 0, "worker_busy_us": 1e6},
        {"request_success": 100, "exec_count": 10, "worker_busy_us": 8.5e6, "compute_infer_duration_us": 9e6, "queue_duration_us": 2e6},
    )
    for ensemble in (False, True):
        seen = series([server], "shop_dense", ensemble=ensemble)
        assert (seen.busy, seen.waiting, seen.pending) == (1.5, 0.4, 0)


def test_an_idle_model_has_rates_of_zero_and_no_latency() -> None:
    seen = series([pages({"request_success": 7}, {"request_success": 7})], "shop_dense")
    assert (seen.requests, seen.busy, seen.waiting) == (0, 0, 0)
    assert (seen.mean_ms, seen.p95_ms) == (None, None)


@pytest.mark.parametrize("server", [pages({"request_success": 7}), [], [Page(0.0, {}, frozenset())]])
def test_what_one_page_cannot_tell_is_unknown(server: list[Page]) -> None:
    seen = series([server], "shop_dense")
    assert (seen.requests, seen.busy, seen.waiting, seen.mean_ms) == (None, None, None, None)


def test_a_counter_that_fell_began_again_at_zero() -> None:
    seen = series([pages({"request_success": 900}, {"request_success": 1000}, {"request_success": 50})], "shop_dense")
    assert seen.requests == (100 + 50) / 10


def test_a_model_that_was_unloaded_meanwhile_begins_anew() -> None:
    first, _, third = pages({"request_success": 900}, {}, {"request_success": 950})
    gap = Page(5.0, {}, frozenset())
    assert series([[first, gap, third]], "shop_dense").requests is None


def test_servers_are_summed_and_the_slowest_percentile_counts() -> None:
    one = pages({"request_success": 0}, {"request_success": 50, "p95_us": 10_000})
    two = pages({"request_success": 0}, {"request_success": 25, "p95_us": 30_000})
    seen = series([one, two], "shop_dense")
    assert (seen.requests, seen.p95_ms) == (15, 30)


def test_a_front_s_stand_in_for_a_shard_tells_what_is_offered_and_nothing_else() -> None:
    front = pages({}, {"request_success": 50, "request_failure": 5, "pending_request_count": 9}, remote=("shop_dense",))
    shard = pages({}, {"request_success": 40})
    assert series([front], "shop_dense") == Series(offered=11)
    seen = series([front, shard], "shop_dense")
    assert (seen.requests, seen.offered, seen.pending) == (8, 11, 0)


def test_a_front_of_the_engine_tells_what_is_offered_to_a_shard_that_is_no_model_of_it() -> None:
    labels = '{model="shop_embedding_1",version="1"}'
    texts = (f"recsplit_remote_rows{labels} {count}\nrecsplit_remote_requests{labels} {count}\n" for count in (0, 55))
    front = [Reader().read(page({"shop": {}}) + text, at_s=5.0 * number) for number, text in enumerate(texts)]
    assert series([front], "shop_embedding_1") == Series(offered=11)


def test_an_ensemble_has_no_queue_and_no_instances() -> None:
    server = pages({}, {"request_success": 50, "queue_duration_us": 1, "request_duration_us": 1e6})
    seen = series([server], "shop_dense", ensemble=True)
    assert (seen.busy, seen.waiting, seen.pending, seen.mean_ms) == (None, None, None, 20)


def test_another_page_than_triton_s_is_refused() -> None:
    with pytest.raises(ValueError, match="Triton"):
        Reader().read("<html>not found</html>", 0.0)
    with pytest.raises(ValueError, match="time"):
        Reader().read('nv_inference_request_success{model="a"} 5 1700000000000\n', 0.0)
    with pytest.raises(ValueError):
        Reader().read('nv_inference_request_success{model="a"} many\n', 0.0)


def test_a_reader_reads_the_same_page_in_the_same_way_again() -> None:
    """What it keeps of series is only a shorter way; models that are gone are gone."""
    reader = Reader()
    both = page({"a": {"request_success": 5, "p95_us": 7000}, "b": {"request_success": 6}}, remote=("b",))
    assert reader.read(both, 1.0) == reader.read(both, 1.0) == Reader().read(both, 1.0)
    one = page({"a": {"request_success": 9}})
    assert reader.read(one, 2.0) == Reader().read(one, 2.0)
    assert set(reader.read(one, 2.0).values) == {"a"}


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=8), st.integers(0, 7))
def test_a_restart_never_makes_a_rate_negative_or_larger_than_what_was_counted(grown: list[int], restart: int) -> None:
    """Totals of a server that restarts once: the rate is never negative, and never more than what came."""
    total, totals = 0, []
    for number, more in enumerate(grown):
        total = more if number == restart else total + more
        totals.append({"request_success": float(total)})
    seen = series([pages(*totals)], "shop_dense").requests
    assert seen is not None
    assert 0 <= seen * 5 * (len(grown) - 1) <= sum(grown[1:]) + 1e-6
