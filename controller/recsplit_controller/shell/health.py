"""The controller's own page: /metrics for Prometheus, /healthz and /readyz for probes. On loopback unless another address is given.

Alive means that ticks end, well or not: an outage of Prometheus is no reason to restart a controller. Ready means that it
holds the lease and has fresh data, so that what it wants is founded.
"""

import logging
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from prometheus_client.exposition import choose_encoder

from recsplit.errors import InputError
from recsplit_controller.shell.metrics import Meters

_LOG = logging.getLogger(__name__)

#: Without the end of a tick for so many intervals, and no less than so long, a controller that holds the lease is stalled.
STALLED_INTERVALS = 10
STALLED_S = 60.0


class Health:
    """Answers of the two probes: whether, and why. `clock` gives Unix seconds."""

    def __init__(self, meters: Meters, interval_s: float, *, clock: Callable[[], float] = time.time) -> None:
        self._meters, self._clock = meters, clock
        self._started_s, self._limit_s = clock(), max(STALLED_INTERVALS * interval_s, STALLED_S)

    def alive(self) -> tuple[bool, str]:
        """False where the loop is stalled. One that waits for the lease needn't tick."""
        if not self._meters.leads:
            return True, "another controller holds the lease, or it isn't taken yet"
        since_s = self._clock() - max(self._meters.last_tick_s or 0.0, self._meters.leads_since_s, self._started_s)
        return since_s <= self._limit_s, f"the last tick ended {since_s:.0f} s ago; stalled from {self._limit_s:.0f} s on"

    def ready(self) -> tuple[bool, str]:
        """Whether it acts, and on data that are fresh."""
        if not self._meters.leads:
            return False, "another controller holds the lease, or it isn't taken yet"
        if not self._meters.fresh:
            return False, "data are missing or stale, so that everything holds"
        return self.alive()


class _Page(BaseHTTPRequestHandler):
    """One request. A client that says nothing for five seconds is let go."""

    server: "HealthServer"
    timeout = 5

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.meters.registry), content_type)
        elif path in {"/healthz", "/readyz"}:
            good, why = self.server.health.alive() if path == "/healthz" else self.server.health.ready()
            self._answer(200 if good else 503, f"{why}\n".encode(), "text/plain; charset=utf-8")
        else:
            self._answer(404, b"/metrics, /healthz and /readyz are here\n", "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is http.server's)
        """Say nothing: probes come every few seconds."""


class HealthServer(socketserver.ThreadingTCPServer):
    """Serves the page from a thread of its own until `close`. `port` 0 takes any; `url` says which it is.

    Not http.server's own class, which asks the DNS for its name before it serves. Raises InputError where it can't listen there.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, meters: Meters, health: Health, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.meters, self.health = meters, health
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Page)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"the controller's metrics can't be served at {host}:{port}: {error}", hint="choose another address or port"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True)
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002  (socketserver's)
        """A client that went away is not our trouble; a fault of ours is logged."""
        if not isinstance(sys.exc_info()[1], OSError):
            _LOG.exception("the metrics page failed")

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()
        self._thread.join()
