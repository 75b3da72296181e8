"""The controller's page: metrics for Prometheus, and probes that tell a stalled controller from one that lacks data."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from recsplit.errors import InputError
from recsplit_controller.shell.health import Health, HealthServer
from recsplit_controller.shell.metrics import Meters
from recsplit_controller.values.observation import Observation
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Tick


class Clock:
    """Unix seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meters(clock: Clock) -> Meters:
    return Meters(Settings(), [Target("shop_dense", "shop_dense", "dense")], clock=clock)


@pytest.fixture
def server(meters: Meters, clock: Clock) -> Iterator[HealthServer]:
    served = HealthServer(meters, Health(meters, Settings().interval_s, clock=clock))
    yield served
    served.close()


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(server.url + path, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def tick(meters: Meters, at_s: float, data_s: float | None) -> None:
    meters.show(Tick(Observation(at_s, data_s, "shop"), ()))


def test_metrics_are_served(server: HealthServer, meters: Meters) -> None:
    meters.fail("decide")
    status, text = get(server, "/metrics")
    assert status == 200 and 'recsplit_controller_failures_total{reason="decide"} 1.0' in text


def test_prometheus_gets_the_format_that_it_asks_for(server: HealthServer) -> None:
    asked = urllib.request.Request(server.url + "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.read().endswith(b"# EOF\n")


def test_a_controller_without_the_lease_is_alive_and_not_ready(server: HealthServer, clock: Clock) -> None:
    clock.now_s += 10_000
    assert get(server, "/healthz")[0] == 200
    status, why = get(server, "/readyz")
    assert status == 503 and "lease" in why


def test_it_is_ready_from_the_first_fresh_data_on(server: HealthServer, meters: Meters, clock: Clock) -> None:
    meters.lead(True)
    assert get(server, "/readyz")[0] == 503
    tick(meters, clock.now_s, clock.now_s - 5)
    assert get(server, "/readyz")[0] == 200
    tick(meters, clock.now_s, clock.now_s - 500)
    status, why = get(server, "/readyz")
    assert status == 503 and "stale" in why


def test_failed_ticks_keep_it_alive_and_missing_ones_do_not(server: HealthServer, meters: Meters, clock: Clock) -> None:
    meters.lead(True)
    for _ in range(20):
        clock.now_s += 30
        meters.fail("observe")
        assert get(server, "/healthz")[0] == 200
    clock.now_s += 61
    status, why = get(server, "/healthz")
    assert status == 503 and "61 s ago" in why


def test_one_that_just_took_the_lease_has_time_for_its_first_tick(meters: Meters, clock: Clock) -> None:
    health = Health(meters, 5.0, clock=clock)
    clock.now_s += 10_000
    meters.lead(True)
    assert health.alive()[0]
    clock.now_s += 61
    assert not health.alive()[0]


def test_nothing_else_is_served(server: HealthServer) -> None:
    assert get(server, "/")[0] == 404


def test_a_client_that_says_nothing_holds_up_nobody(server: HealthServer) -> None:
    host, port = server.server_address[:2]
    with socket.create_connection((str(host), int(port))):
        assert get(server, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_told(server: HealthServer, meters: Meters) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(InputError, match="can't be served at"):
            HealthServer(meters, Health(meters, 5.0), port=listener.getsockname()[1])
