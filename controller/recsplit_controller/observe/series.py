"""From the pages of a window to one model's series: differences of counters, resets seen, summed over servers."""

from collections.abc import Iterable, Mapping, Sequence

from recsplit_controller.observe.page import COUNTERS, QUANTILES, Page
from recsplit_controller.values.observation import Series, total

_COUNTED = tuple(dict.fromkeys(COUNTERS.values()))


def series(servers: Iterable[Sequence[Page]], model: str, *, ensemble: bool = False) -> Series:
    """One model over servers, each with its pages, oldest first, the last one of now.

    A server whose last page lacks the model is left out. Rates need two pages of it; a counter that fell began again at 0. An ensemble has
    no queue and no instances of its own (Triton counts its steps' there), so `busy`, `waiting` and `pending` stay unknown; where clients
    call one model of the engine, that has its own.
    """
    local: list[tuple[Mapping[str, float], Mapping[str, float]]] = []
    offered: list[float | None] = []
    for pages in servers:
        if not pages or model not in pages[-1].values:
            continue
        rates = _rates(pages, model)
        if model in pages[-1].remote:
            offered.append(rates["offered"] if "offered" in rates else total([rates.get("requests"), rates.get("failures")]))
        else:
            local.append((pages[-1].values[model], rates))
    ensemble = ensemble and not any("worker_us" in now for now, _ in local)
    requests = _sum(rates.get("requests") for _, rates in local)
    request_us = _sum(rates.get("request_us") for _, rates in local)
    queue_us = _sum(rates.get("queue_us") for _, rates in local)
    slowest = {name: max((now[name] for now, _ in local if name in now), default=None) for name in QUANTILES.values()}
    return Series(
        requests=requests,
        rows=_sum(rates.get("rows") for _, rates in local),
        executions=_sum(rates.get("executions") for _, rates in local),
        failures=_sum(rates.get("failures") for _, rates in local),
        busy=None if ensemble else _sum(_busy(rates) for _, rates in local),
        waiting=None if ensemble or queue_us is None else queue_us / 1e6,
        pending=None if ensemble else _sum(now.get("pending") for now, _ in local),
        offered=_sum(offered),
        mean_ms=request_us / requests / 1000 if request_us is not None and requests else None,
        p50_ms=slowest["p50_ms"],
        p95_ms=slowest["p95_ms"],
        p99_ms=slowest["p99_ms"],
    )


def _rates(pages: Sequence[Page], model: str) -> dict[str, float]:
    """Counters' rates a second, over the last pages in a row that have the model and that counter; none from one page alone."""
    rates = {}
    for key in _COUNTED:
        grown, newer = 0.0, pages[-1]
        for older in reversed(pages[:-1]):
            if key not in older.values.get(model, {}) or key not in newer.values[model]:
                break
            before, after = older.values[model][key], newer.values[model][key]
            grown += after - before if after >= before else after
            newer = older
        if (elapsed_s := pages[-1].at_s - newer.at_s) > 0:
            rates[key] = grown / elapsed_s
    return rates


def _busy(rates: Mapping[str, float]) -> float | None:
    """Workers of the engine that compute in one server, or instances that execute, in the mean. For these a batch's time is counted once
    for every request in it: with so many requests an execution, the sum is that much too long. (Exact where batches are alike; too much
    where the larger ones take longer.)"""
    if "worker_us" in rates:
        return rates["worker_us"] / 1e6
    compute_us, executions, requests = (rates.get(key) for key in ("compute_us", "executions", "requests"))
    if compute_us is None or executions is None or requests is None:
        return None
    return compute_us / 1e6 * executions / requests if requests else 0.0


def _sum(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
