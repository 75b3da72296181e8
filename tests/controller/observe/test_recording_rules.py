"""One answer of Prometheus, read: what is unknown stays unknown."""

import http.server
import json
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit_controller.observe.prometheus import PrometheusObserver
from recsplit_controller.observe.recording_rules import Standing, observation, query
from recsplit_controller.values.observation import Series


def sample(what: str, value: object, *, model: str | None = "shop_dense", now_s: float = 1000.0, **labels: str) -> object:
    """One series of an instant vector, as Prometheus' API writes it."""
    named = {"__name__": f"recsplit:{what}", **labels} | ({} if model is None else {"model": model})
    return {"metric": named, "value": [now_s, str(value)]}


def test_values_go_to_their_models() -> None:
    seen = observation(50.0, "shop", ("shop", "shop_dense"), [sample("data_s", 997), sample("busy", 1.5), sample("p95_ms", 20)])
    assert seen.of("shop_dense") == Series(busy=1.5, p95_ms=20)
    assert seen.problems == ("no server has 'shop'",)


def test_ages_are_taken_by_prometheus_own_clock() -> None:
    """Its clock is far ahead of ours: the data are three seconds old all the same, the oldest of them."""
    answer = [sample("data_s", 9_999, now_s=10_000), sample("data_s", 9_997, model="shop", now_s=10_000)]
    assert observation(50.0, "shop", ("shop", "shop_dense"), answer).data_s == 47


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_no_number_is_unknown(value: str) -> None:
    seen = observation(50.0, "shop", ("shop_dense",), [sample("data_s", 999), sample("p95_ms", value), sample("requests", 0)])
    assert seen.of("shop_dense") == Series(requests=0)


def test_values_without_a_sample_time_are_of_no_use() -> None:
    """Rates outlive their server by the window they look back."""
    seen = observation(50.0, "shop", ("shop_dense",), [sample("requests", 7)])
    assert (seen.of("shop_dense"), seen.data_s) == (Series(), None)
    assert "no data" in seen.problems[0]


def test_a_server_that_is_away_is_told() -> None:
    seen = observation(50.0, "shop", ("shop_dense",), [sample("data_s", 999), sample("up", 0, model=None, instance="127.0.0.1:8002")])
    assert seen.problems == ("Prometheus can't read 127.0.0.1:8002",)


@pytest.mark.parametrize("turned", [False, True])
def test_two_series_of_one_model_are_a_problem_that_holds_whatever_their_order(turned: bool) -> None:
    """Two namespaces share a Prometheus, and nobody said which is meant: neither is taken, and both are told."""
    one = [sample("data_s", 999, namespace="shop"), sample("requests", 7, namespace="shop")]
    other = [sample("data_s", 998, namespace="test"), sample("requests", 9, namespace="test")]
    answer = [*(other + one if turned else one + other), sample("data_s", 999, model="shop"), sample("requests", 8, model="shop")]
    seen = observation(50.0, "shop", ("shop", "shop_dense"), answer)
    assert seen.of("shop_dense") == Series() and seen.of("shop").requests == 8
    assert seen.problems == ("Prometheus has two series of 'shop_dense' (namespace 'shop' and 'test'): choose with --select LABEL=VALUE",)


def test_labels_are_asked_for_as_text() -> None:
    assert query("shop", {}) == '{__name__=~"recsplit:.+",ensemble="shop"}'
    assert query("shop", {"namespace": 'a"b'}) == '{__name__=~"recsplit:.+",ensemble="shop",namespace="a\\"b"}'


@pytest.mark.parametrize(
    "answer", [None, {}, "text", [1], [{}], [{"metric": {}, "value": [1, "2"]}], [{"metric": {"__name__": "a"}, "value": 3}]]
)
def test_another_answer_is_refused(answer: object) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        observation(50.0, "shop", ("shop_dense",), answer)


@given(st.lists(st.tuples(st.sampled_from(["requests", "busy", "data_s", "p99_ms", "up", "other"]), st.floats()), max_size=12))
def test_whatever_the_values_nothing_unknown_becomes_a_number(values: list[tuple[str, float]]) -> None:
    seen = observation(50.0, "shop", ("shop_dense",), [sample(what, value) for what, value in values])
    dense_series = seen.of("shop_dense")
    for name in ("requests", "busy", "p99_ms"):
        value = getattr(dense_series, name)
        assert value is None or (math.isfinite(value) and (name, value) in values)
    assert seen.data_s is None or seen.data_s <= 50.0


def test_an_answer_that_stands_still_grows_old() -> None:
    first = Standing.after(None, 5.0, [sample("requests", "1", now_s=1000.0)])
    assert first == Standing(5.0, 1000.0)
    assert Standing.after(first, 7.0, [sample("requests", "1", now_s=1000.0)]) == first
    assert Standing.after(first, 9.0, [sample("requests", "1", now_s=1004.0)]) == Standing(9.0, 1004.0)
    assert Standing.after(first, 9.0, []) is None


def test_an_observer_tells_the_age_of_a_frozen_answer() -> None:
    """A cache between us and Prometheus, which can't be had here otherwise than by a server that says one thing."""
    text = {"status": "success", "data": {"resultType": "vector", "result": [sample("data_s", "999"), sample("requests", "3")]}}

    class Frozen(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(text).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Frozen) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        observer = PrometheusObserver(f"http://127.0.0.1:{server.server_port}", "shop", ["shop_dense"])
        ages = [at_s - (observer.observe(at_s).data_s or 0.0) for at_s in (100.0, 105.0, 140.0)]
        observer.close()
        server.shutdown()
    assert ages == [1.0, 6.0, 41.0]
