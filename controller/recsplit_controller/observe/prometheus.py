"""Sees the servers through Prometheus and the rules that `recsplit render prometheus` writes: one query a tick."""

import dataclasses
import io
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import requests
import urllib3
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect

from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit_controller.observe.recording_rules import Standing, observation, query
from recsplit_controller.observe.waiting import Caller
from recsplit_controller.values.observation import Observation, Series

_WORDS = 200
#: Some hundred times what the series of 200 models take.
MOST_BYTES = 64 << 20
#: What the question, and an answer that is none, may raise: nested too deeply, or with numbers beyond a float's, among them.
_UNREAD = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError),
    *(PrometheusApiClientException, requests.RequestException, urllib3.exceptions.HTTPError),
)


class PrometheusObserver:
    """Asks the Prometheus at `url` ("http://127.0.0.1:9090") for all recorded series of `ensemble`.

    `models`: the composing models' names, the ensemble's may be among them. An answer that isn't there within `timeout_s` is a problem
    told; a Prometheus that hangs is not asked again before it has answered or failed.
    """

    def __init__(self, url: str, ensemble: str, models: Sequence[str], *, timeout_s: float = 2.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"{url!r} is no address of a Prometheus", hint="as http://127.0.0.1:9090")
        self._url = url.rstrip("/")
        self._ensemble = ensemble
        self._models = tuple(dict.fromkeys((ensemble, *models)))
        self._timeout_s = timeout_s
        # The next tick is the next trial: no retries here.
        session = requests.Session()
        session.hooks["response"].append(_bounded)
        self._client = PrometheusConnect(self._url, retry=urllib3.Retry(total=0), session=session)
        self._caller: Caller[Any] = Caller()
        self._standing: Standing | None = None

    def observe(self, at_s: float) -> Observation:
        """What Prometheus has now."""
        deadline_s = time.monotonic() + self._timeout_s
        self._caller.begin(partial(self._client.custom_query, query(self._ensemble), timeout=math.ceil(self._timeout_s)))
        try:
            result = self._caller.answer(deadline_s)
            self._standing = Standing.after(self._standing, at_s, result)
            seen = observation(at_s, self._ensemble, self._models, result)
            if seen.data_s is None or self._standing is None:
                return seen
            return dataclasses.replace(seen, data_s=seen.data_s - (at_s - self._standing.since_s))
        except _UNREAD as error:
            words = f"{self._url}: {type(error).__name__}: {error}"
            problem = words if len(words) <= _WORDS else f"{words[:_WORDS]}..."
            return Observation(at_s, None, self._ensemble, dict.fromkeys(self._models, Series()), problems=(problem,))

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _bounded(response: requests.Response, *_: object, **__: object) -> None:
    """Take an answer off the wire before requests does, which would take one without an end. Raises ValueError for too large a one."""
    body = io.BytesIO()
    for block in response.raw.stream(1 << 16, decode_content=True):
        body.write(block)
        if body.tell() > MOST_BYTES:
            response.raw.close()
            raise ValueError(f"its answer has more than {size_text(MOST_BYTES)}, the most that is read")
    body.seek(0)
    response.raw = body
