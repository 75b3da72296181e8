"""Servers seen by their own pages. The pages here are of a small HTTP server, so that one can hang, fail and come back at will; a real
Triton is seen in test_prometheus.py."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recsplit.errors import InputError
from recsplit_controller.observe.scrape import ScrapeObserver
from tests.controller.observe.pages import page

Answer = Callable[[], tuple[int, str]]


class Pages(ThreadingHTTPServer):
    """Answers with what `answer` says now."""

    answer: Answer
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """An observer that gave up has hung up."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/metrics"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Pages)
        status, text = self.server.answer()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def servers() -> Iterator[tuple[Pages, Pages]]:
    both = Pages(("127.0.0.1", 0), Handler), Pages(("127.0.0.1", 0), Handler)
    for server in both:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield both
    for server in both:
        server.shutdown()
        server.server_close()


def counting(total: float) -> Answer:
    return lambda: (200, page({name: {"request_success": total} for name in ("shop", "shop_dense")}))


def observer(*servers: Pages, timeout_s: float = 2.0) -> ScrapeObserver:
    return ScrapeObserver([server.url for server in servers], "shop", ("shop_dense",), window_s=10, timeout_s=timeout_s)


def test_rates_come_with_the_second_look(servers: tuple[Pages, Pages]) -> None:
    one, two = servers
    one.answer, two.answer = counting(100), counting(1000)
    seeing = observer(one, two)
    first = seeing.observe(50.0)
    assert first.of("shop_dense").requests is None and first.problems == ()
    one.answer, two.answer = counting(150), counting(1050)
    second = seeing.observe(60.0)
    assert second.of("shop_dense").requests == pytest.approx(10, rel=0.05)
    assert second.data_s == pytest.approx(60, abs=1)
    seeing.close()


@pytest.mark.parametrize("ill", ["fails", "hangs", "is no Triton"])
def test_a_server_that_is_away_is_left_out_and_told(servers: tuple[Pages, Pages], ill: str) -> None:
    one, two = servers
    one.answer, two.answer = counting(100), counting(1000)
    seeing = observer(one, two)
    seeing.observe(50.0)
    released = threading.Event()
    answers: dict[str, Answer] = {
        "fails": lambda: (503, "no"),
        "hangs": lambda: (200, str(released.wait())),  # an observer that waits for it waits for ever
        "is no Triton": lambda: (200, "<html>"),
    }
    one.answer, two.answer = counting(150), answers[ill]
    seen = seeing.observe(60.0)
    released.set()
    assert seen.of("shop_dense").requests == pytest.approx(5, rel=0.1)
    assert len(seen.problems) == 1 and two.url in seen.problems[0]


def test_no_server_at_all_is_no_data(servers: tuple[Pages, Pages]) -> None:
    one, _ = servers
    one.answer = lambda: (500, "")
    seen = observer(one).observe(50.0)
    assert seen.data_s is None and seen.of("shop").requests is None and len(seen.problems) == 1


def test_a_server_that_came_back_with_old_counts_gone_has_rates_again(servers: tuple[Pages, Pages]) -> None:
    one, _ = servers
    seeing = observer(one)
    one.answer = counting(1000)
    seeing.observe(50.0)
    one.answer = lambda: (500, "")
    seeing.observe(55.0)
    one.answer = counting(20)
    assert seeing.observe(60.0).of("shop").requests == pytest.approx(2, rel=0.05)


def test_a_model_that_no_server_has_is_told(servers: tuple[Pages, Pages]) -> None:
    one, _ = servers
    one.answer = counting(1)
    seen = ScrapeObserver([one.url], "shop", ("shop_dense", "shop_embedding")).observe(50.0)
    assert seen.problems == ("no server has 'shop_embedding'",)
    assert seen.of("shop_embedding").pending is None


def test_the_memory_of_a_long_run_is_one_window(servers: tuple[Pages, Pages]) -> None:
    one, _ = servers
    seeing = observer(one)
    one.answer = counting(5)
    for tick in range(30):
        seeing.observe(float(tick))
    assert len(seeing._pages[one.url]) <= 12


def test_an_address_must_be_one() -> None:
    with pytest.raises(InputError, match="metrics page"):
        ScrapeObserver(["file:///etc/passwd"], "shop", ())
