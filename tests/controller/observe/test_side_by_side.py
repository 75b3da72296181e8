"""Two namespaces in one real Prometheus, with the rendered rules: each is seen for itself, and both at once are refused.

The pages are made up, so that their rates are known.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsplit.monitoring.rendering import TARGETS, render
from recsplit.monitoring.rules import models
from recsplit.monitoring.watching import Watching
from recsplit.plan.plan import Plan
from recsplit.serving import prometheus
from recsplit_controller.observe.prometheus import PrometheusObserver
from recsplit_controller.values.observation import Observation
from tests.controller.observe.pages import page
from tests.kubernetes.prometheus import BINARY
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BINARY is None, reason="prometheus is not installed (Debian's package of that name)")]


@contextmanager
def counting(plan: Plan, rate: float) -> Iterator[str]:
    """A page whose counters rise by `rate` requests a second; its address."""
    start = time.monotonic()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            done = rate * (time.monotonic() - start)
            values = {"request_success": done, "count": done, "exec_count": done, "compute_infer_duration_us": 1e4 * done}
            body = page(dict.fromkeys(models(plan), values)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_namespaces_are_seen_each_for_itself_and_never_both_as_one(plan: Plan) -> None:
    with counting(plan, 50.0) as shop, counting(plan, 200.0) as other:
        targets = [{"targets": [address], "labels": {"namespace": name}} for address, name in ((shop, "shop"), (other, "test"))]
        texts = render(plan, Watching(interval_s=1, window_s=8)) | {TARGETS: json.dumps(targets)}
        assert BINARY is not None
        with prometheus.start(Path(BINARY), texts) as real:
            seen: dict[str, Observation] = {}

            def rates_are(namespace: str, rate: float) -> bool:
                observer = PrometheusObserver(real.url, plan.name, models(plan), select={"namespace": namespace})
                seen[namespace] = observer.observe(time.time())
                observer.close()
                requests = seen[namespace].of(plan.dense.name).requests
                return requests is not None and abs(requests - rate) < 0.2 * rate and not seen[namespace].problems

            until(lambda: rates_are("shop", 50.0) and rates_are("test", 200.0), lambda: f"rates of their own: {seen}")
            both = PrometheusObserver(real.url, plan.name, models(plan))
            observation = both.observe(time.time())
            both.close()
            assert observation.data_s is None and observation.of(plan.dense.name).requests is None
            assert any("two series of" in problem and "namespace 'shop' and 'test'" in problem for problem in observation.problems)
