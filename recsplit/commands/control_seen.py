"""How `recsplit control` sees: through Prometheus or pages, asked as the user says; and what came in before it started."""

import logging
import re
import time
from pathlib import Path

from recsplit.credentials import check_without_user, read_credentials
from recsplit.errors import InputError, RecsplitError
from recsplit_controller.core.flow import remembered
from recsplit_controller.core.memory import Memory
from recsplit_controller.observe.prometheus import PrometheusObserver
from recsplit_controller.observe.protocol import Observer
from recsplit_controller.observe.scrape import ScrapeObserver
from recsplit_controller.shell.systems import System

_LOG = logging.getLogger(__name__)


def refuse_users(prometheus_url: str | None, metrics_urls: tuple[str, ...]) -> None:
    """Raise InputError where an address has a user in it."""
    for option, urls in (("--prometheus", (prometheus_url or "",)), ("--metrics-url", metrics_urls)):
        for url in urls:
            check_without_user(url, option, "--prometheus-http FILE")


def observer_of(
    prometheus_url: str | None, metrics_urls: tuple[str, ...], http_file: Path | None, selects: tuple[str, ...], system: System
) -> Observer:
    """The observer that the options ask for. Raises InputError where they don't do."""
    models = [target.model for target in system.asked.targets]
    credentials = None if http_file is None else read_credentials(http_file)
    if prometheus_url is not None:
        return PrometheusObserver(prometheus_url, system.ensemble, models, select=_selected(selects), credentials=credentials)
    settings = system.asked.settings
    return ScrapeObserver(metrics_urls, system.ensemble, models, credentials=credentials, window_s=settings.window_s)


def _selected(selects: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for text in selects:
        label, mark, value = text.partition("=")
        if not mark or not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label):
            raise InputError(f"{text!r} is no label and value", hint="as --select namespace=shop")
        labels[label] = value
    return labels


def memory_of(system: System, observer: Observer) -> Memory:
    """What the controller begins with: what came in before, where a Prometheus tells and the forecaster makes use of it."""
    settings, forecaster, now_s = system.asked.settings, system.forecaster, time.time()
    if not isinstance(observer, PrometheusObserver) or forecaster.periods < 2:
        return Memory()
    try:
        known = observer.history(now_s, settings.period_s, forecaster.periods)
    except RecsplitError as error:
        _LOG.warning("the forecaster begins without what came before", extra={"fields": {"why": str(error)}})
        return Memory()
    period = int(now_s // settings.period_s)
    _LOG.info("what came before is known", extra={"fields": {"periods": {model: len(rates) for model, rates in known.items()}}})
    return Memory(rates={model: remembered(forecaster, rates, period) for model, rates in known.items()})
