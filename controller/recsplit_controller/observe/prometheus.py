"""Sees the servers through Prometheus and the rules that `recsplit render prometheus` writes: one query a tick."""

import dataclasses
import io
import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

import requests
import urllib3
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect

from recsplit.credentials import Credentials
from recsplit.disk.files import size_text
from recsplit.errors import InputError, RecsplitError
from recsplit_controller.observe import history
from recsplit_controller.observe.recording_rules import Standing, matcher, observation, query
from recsplit_controller.observe.waiting import Caller
from recsplit_controller.values.observation import Observation, Series

_WORDS = 200
#: Some hundred times what the series of 200 models take.
MOST_BYTES = 64 << 20
#: What the question, and an answer that is none, may raise: nested too deeply, or with numbers beyond a float's, among them.
_UNREAD = (
    *(InputError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError),
    *(PrometheusApiClientException, requests.RequestException, urllib3.exceptions.HTTPError),
)


class PrometheusObserver:
    """Asks the Prometheus at `url` ("http://127.0.0.1:9090") for all recorded series of `ensemble`.

    `models`: the composing models' names, the ensemble's may be among them. `select`: labels that the series must have, where several
    builds, namespaces or clusters have such an ensemble. An answer that isn't there within `timeout_s` is a problem
    told; a Prometheus that hangs is not asked again before it has answered or failed.
    """

    def __init__(
        self,
        url: str,
        ensemble: str,
        models: Sequence[str],
        *,
        select: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"{url!r} is no address of a Prometheus", hint="as http://127.0.0.1:9090")
        self._url = url.rstrip("/")
        self._ensemble, self._select = ensemble, dict(select or {})
        self._models = tuple(dict.fromkeys((ensemble, *models)))
        self._timeout_s = timeout_s
        # The next tick is the next trial: no retries here.
        session = requests.Session()
        session.hooks["response"] += [_bounded, self._warned]
        if credentials is not None:
            _sign(session, credentials)
        self._client = PrometheusConnect(self._url, retry=urllib3.Retry(total=0), session=session)
        self._caller: Caller[Any] = Caller()
        self._standing: Standing | None = None
        self._partial: tuple[str, ...] = ()

    def observe(self, at_s: float) -> Observation:
        """What Prometheus has now."""
        deadline_s = time.monotonic() + self._timeout_s
        self._caller.begin(partial(self._client.custom_query, query(self._ensemble, self._select), timeout=math.ceil(self._timeout_s)))
        try:
            result = self._caller.answer(deadline_s)
            self._standing = Standing.after(self._standing, at_s, result)
            seen = observation(at_s, self._ensemble, self._models, result)
            seen = dataclasses.replace(seen, problems=(*seen.problems, *self._partial))
            if seen.data_s is None or self._standing is None:
                return seen
            return dataclasses.replace(seen, data_s=seen.data_s - (at_s - self._standing.since_s))
        except _UNREAD as error:
            problems = (self._words(error),)
            return Observation(at_s, None, self._ensemble, dict.fromkeys(self._models, Series()), problems=problems)

    def _warned(self, response: requests.Response, *_: object, **__: object) -> None:
        """Keep what an answer says of itself: some store of Thanos or Mimir didn't answer, and the rest is a part. The client drops it."""
        answer = response.json() if b'"warnings"' in response.content else {}
        warnings = answer.get("warnings") if isinstance(answer, dict) else None
        self._partial = tuple(f"the answer is partial: {str(text)[:_WORDS]}" for text in warnings[:3]) if isinstance(warnings, list) else ()

    def _words(self, error: Exception) -> str:
        words = f"{self._url}: {type(error).__name__}: {error}"
        return words if len(words) <= _WORDS else f"{words[:_WORDS]}..."

    def history(self, at_s: float, period_s: float, periods: int, *, timeout_s: float = 30.0) -> Mapping[str, tuple[float, ...]]:
        """Each model's largest rates a second in the last full periods, as many as Prometheus knows (`history.maxima`).

        Raises RecsplitError where it doesn't tell.
        """
        first_s, last_s, count = history.points(at_s, period_s, periods)
        begin, end = (datetime.fromtimestamp(moment, timezone.utc) for moment in (first_s, last_s))
        try:
            results = [
                self._client.custom_query_range(
                    history.query(what, matcher(self._ensemble, self._select), period_s),
                    begin,
                    end,
                    f"{period_s:g}",
                    timeout=math.ceil(timeout_s),
                )
                for what in history.RATES
            ]
            return history.maxima(results, self._models, first_s, period_s, count)
        except _UNREAD as error:
            raise RecsplitError(self._words(error)) from error

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _sign(session: requests.Session, credentials: Credentials) -> None:
    """Ask through this session with these. Headers are read anew for each request."""

    def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(credentials.read())
        return request

    session.trust_env = False  # a ~/.netrc would go before the header
    session.auth = signed
    session.verify = str(credentials.ca) if credentials.ca is not None else credentials.verify
    if credentials.certificate is not None:
        session.cert = str(credentials.certificate) if credentials.key is None else (str(credentials.certificate), str(credentials.key))


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
