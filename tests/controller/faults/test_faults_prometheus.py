"""What the controller does when Prometheus fails: everything stays, and it goes on when data come again."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsplit.monitoring.rendering import render
from recsplit.monitoring.watching import Scraped, Watching
from recsplit.plan.plan import Plan
from recsplit.serving import Server, prometheus
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.observe.prometheus import PrometheusObserver
from recsplit_perf.processes.instances import instances
from tests.controller.faults.faults import HIGH, LOW, MODEL, NAME, TARGETS, asked, controlled, lasts
from tests.waiting import until

pytestmark = pytest.mark.slow


@dataclass
class Between:
    """Stands between the controller and a real Prometheus, for the real one gives no NaN, no old and no late answer on request.

    `mode`: "" passes answers on; "stopped" hangs up; "NaN" spoils the values; "stale" tells the last samples as of now; "slow" answers
    after 5 s.
    """

    url: str = ""
    mode: str = ""
    last: bytes = b""
    pause: threading.Event = field(default_factory=threading.Event)

    def answer(self, real: str, path: str) -> bytes | None:
        """What is answered to a query; None: the connection is closed without an answer."""
        if self.mode == "stopped":
            return None
        if self.mode == "slow":
            self.pause.wait(5)
        if self.mode == "stale":
            # As a Prometheus that scrapes no more: evaluated now, from old samples.
            response = json.loads(self.last)
            for series in response["data"]["result"]:
                series["value"][0] = time.time()
            return json.dumps(response).encode()
        connection = http.client.HTTPConnection(real, timeout=5)
        connection.request("GET", path)
        self.last = connection.getresponse().read()
        connection.close()
        if self.mode != "NaN":
            return self.last
        response = json.loads(self.last)
        for series in response["data"]["result"]:
            if series["metric"]["__name__"] != "recsplit:data_s":
                series["value"][1] = "NaN"
        return json.dumps(response).encode()


@contextmanager
def between(real: str) -> Iterator[Between]:
    state = Between()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = state.answer(real, self.path)
            if body is None:
                self.close_connection = True
                return
            try:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # nobody waited for it
                self.close_connection = True

        def log_message(self, *args: object) -> None:  # not on stderr
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            state.pause.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("mode", ["stopped", "NaN", "stale", "slow"])
def test_without_good_data_all_stays_as_it_is_and_then_goes_on(heavy_server: Server, heavy: Path, plan: Plan, mode: str) -> None:
    watching = Watching((Scraped(heavy_server.metrics_url.removeprefix("http://").removesuffix("/metrics")),), interval_s=1, window_s=4)
    with prometheus.start(prometheus.find(), render(plan, watching)) as real, between(real.url.removeprefix("http://")) as proxy:
        observer = PrometheusObserver(proxy.url, NAME, [target.model for target in TARGETS], timeout_s=1.0)
        actuator = TritonActuator(heavy_server.grpc_url, heavy, TARGETS)
        with controlled(observer, actuator) as kept:
            with asked(heavy_server.http_url, plan, HIGH) as high:
                until(lambda: (kept.observed() or 0) >= 3 and not kept.last.progress[MODEL].under_way, "counts for the load")
                proxy.mode = mode
                until(lambda: "held" in kept.reason(), "holding")
                assert bool(kept.last.observation.problems) == (mode in ("stopped", "slow"))
                # What the last good data asked for may still be starting or ending: it is the count to stay at.
                until(lambda: not kept.last.progress[MODEL].under_way, "the end of what is under way")
                until(lambda: kept.observed() == len(instances(heavy_server.pid, MODEL)), "settled counts")
            count, ticks = kept.observed(), len(kept.records)
            # Next to nothing comes now. Who took what is missing for zero, or the last data for new, would not stay.
            with asked(heavy_server.http_url, plan, LOW) as low:
                lasts(lambda: kept.observed() == count and len(instances(heavy_server.pid, MODEL)) == count, "the last good counts", 6)
            assert len(kept.records) >= ticks + 3  # it ticks on
            assert not kept.failures
            proxy.mode = ""
            until(lambda: (kept.observed() or 9) < (count or 0), "counts that follow again")
    assert (high.failed, low.failed) == (0, 0), high.errors + low.errors
