"""Sees the servers by their own metrics pages, with no Prometheus."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import partial

from recsplit.credentials import Credentials
from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit_controller.observe.page import Page, Reader
from recsplit_controller.observe.series import series
from recsplit_controller.observe.waiting import Caller
from recsplit_controller.values.observation import Observation

#: A page of 200 models has 1.5 MB.
MOST_BYTES = 16 << 20


class ScrapeObserver:
    """Reads every server's page at each look, all at once, and takes differences over the last `window_s`.

    `metrics_urls` as Triton's ("http://127.0.0.1:8002/metrics"). `models`: the composing models' names, the ensemble's may be among them.
    A server that doesn't answer within `timeout_s` is left out and told. Rates come with the second look.
    """

    def __init__(
        self,
        metrics_urls: Sequence[str],
        ensemble: str,
        models: Sequence[str],
        *,
        credentials: Credentials | None = None,
        window_s: float = 10.0,
        timeout_s: float = 2.0,
    ) -> None:
        for url in metrics_urls:
            if not url.startswith(("http://", "https://")):
                raise InputError(f"{url!r} is no address of a metrics page", hint="as http://127.0.0.1:8002/metrics")
        self._servers: dict[str, Caller[tuple[str, float]]] = {url: Caller() for url in metrics_urls}
        self._readers = {url: Reader() for url in metrics_urls}
        self._pages: dict[str, list[Page]] = {url: [] for url in metrics_urls}
        self._ensemble = ensemble
        self._models = tuple(dict.fromkeys((ensemble, *models)))
        self._window_s = window_s
        self._timeout_s = timeout_s
        self._credentials = credentials or Credentials()
        # Servers are in our own network: no proxy of the environment's is between.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if credentials is not None:
            handlers.append(urllib.request.HTTPSHandler(context=credentials.tls()))
        self._opener = urllib.request.build_opener(*handlers)

    def observe(self, at_s: float) -> Observation:
        """Look at all servers. Pages' times are `at_s` and how long after it they came."""
        began_s = time.monotonic()
        for url, caller in self._servers.items():
            caller.begin(partial(self._read, url))
        present, problems = [], []
        for url, caller in self._servers.items():
            try:
                text, came_s = caller.answer(began_s + self._timeout_s)
                self._keep(url, self._readers[url].read(text, at_s + max(came_s - began_s, 0.0)))
                present.append(self._pages[url])
            except (InputError, OSError, http.client.HTTPException, ValueError) as error:
                problems.append(f"{url}: {_words(error)}")
        models = {model: series(present, model, ensemble=model == self._ensemble) for model in self._models}
        known = {model for pages in present for model in pages[-1].values}
        problems += [f"no server has {model!r}" for model in self._models if model not in known and present]
        data_s = min((min(pages[-1].at_s, at_s) for pages in present), default=None)
        return Observation(at_s, data_s, self._ensemble, models, problems=tuple(problems))

    def close(self) -> None:
        """Nothing stays open between two looks."""

    def _read(self, url: str) -> tuple[str, float]:
        """A page, and when it was there (time.monotonic)."""
        request = urllib.request.Request(url, headers={"Accept": "text/plain"})
        for name, value in self._credentials.read().items():
            request.add_unredirected_header(name, value)  # whoever it is sent on to is somebody else
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                text: bytes = answer.read(MOST_BYTES + 1)
        except urllib.error.HTTPError as error:  # it holds the connection
            error.close()
            raise OSError(f"HTTP status {error.code}") from None
        if len(text) > MOST_BYTES:
            raise ValueError(f"its page has more than {size_text(MOST_BYTES)}, the most that is read")
        return text.decode("utf-8"), time.monotonic()

    def _keep(self, url: str, page: Page) -> None:
        """Add a page; drop those older than the window, but for one before that, so that a long interval still gives rates."""
        pages = [old for old in self._pages[url] if old.at_s < page.at_s]
        fresh = [old for old in pages if old.at_s >= page.at_s - self._window_s]
        if not fresh:
            fresh = [old for old in pages[-1:] if old.at_s >= page.at_s - 3 * self._window_s]
        self._pages[url] = [*fresh, page]


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason if isinstance(reason, OSError) else error) or type(error).__name__
