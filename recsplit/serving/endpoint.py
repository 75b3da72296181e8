"""The few calls that a running Triton's HTTP endpoint is asked here: is it ready, what is loaded, unload."""

import contextlib
import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from recsplit.errors import RecsplitError


@dataclass(frozen=True)
class Endpoint:
    """The HTTP endpoint at "host:port" of the Triton that was started with this --id. `headers` go with every call: a control key."""

    url: str
    server_id: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def ready(self) -> bool:
        """Whether this server (no other one that took the port) answers, and has loaded every model it was asked to load."""
        try:
            if self._call("GET", "/v2/health/ready")[0] != http.HTTPStatus.OK:
                return False
            return bool(json.loads(self._call("GET", "/v2")[1])["name"] == self.server_id)
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return False

    def states(self) -> dict[str, str]:
        """State of every model in the repository in Triton's words (READY, LOADING, UNAVAILABLE, ...); "" for one never loaded.

        Raises RecsplitError where Triton doesn't tell.
        """
        status, text = self._call("POST", "/v2/repository/index")
        index = json.loads(text)
        if status != http.HTTPStatus.OK or not isinstance(index, list):
            reason = index.get("error", "") if isinstance(index, dict) else ""
            raise RecsplitError(f"Triton doesn't tell which models it has: {reason or f'HTTP {status}'}")
        return {entry["name"]: entry.get("state", "") for entry in index}

    def drain(self, timeout_s: float) -> bool:
        """Unload every model: new requests are refused, those in flight are answered. True once nothing is loaded.

        Triton's own exit is no drain: it waits for idle keep-alive connections until the timeout, serves new requests on
        them meanwhile, and then has no time left for those in flight.
        """
        deadline = time.monotonic() + timeout_s
        asked: set[str] = set()
        while time.monotonic() < deadline:
            try:
                loaded = {model for model, state in self.states().items() if state not in ("", "UNAVAILABLE")}
                if not loaded:
                    return True
                for model in sorted(loaded - asked):
                    self._call("POST", f"/v2/repository/models/{model}/unload")
                    asked.add(model)
            except ConnectionRefusedError:  # it does not serve yet, or no more
                return False
            except (OSError, http.client.HTTPException, ValueError, RecsplitError):  # too busy to answer: ask again
                pass
            time.sleep(0.05)
        return False

    def _call(self, method: str, path: str) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection(self.url, timeout=2)) as connection:
            connection.request(method, path, headers=dict(self.headers))
            response = connection.getresponse()
            return response.status, response.read()
