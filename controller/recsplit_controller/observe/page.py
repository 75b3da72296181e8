"""A metrics page of Triton as values: what it says of each model, versions and devices summed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

#: Triton's counters (core/src/metrics.cc) and what they are called here; the three compute times are one.
COUNTERS = {
    "nv_inference_request_success": "requests",
    "nv_inference_request_failure": "failures",
    "nv_inference_count": "rows",
    "nv_inference_exec_count": "executions",
    "nv_inference_request_duration_us": "request_us",
    "nv_inference_queue_duration_us": "queue_us",
    "nv_inference_compute_input_duration_us": "compute_us",
    "nv_inference_compute_infer_duration_us": "compute_us",
    "nv_inference_compute_output_duration_us": "compute_us",
    "recsplit_worker_busy_us": "worker_us",  # of recsplit's engine
    "recsplit_remote_requests": "offered",  # of a shard elsewhere, which is no model of Triton's where the front is the engine's
}
PENDING = "nv_inference_pending_request_count"
SUMMARY = "nv_inference_request_summary_us"
QUANTILES = {"0.5": "p50_ms", "0.95": "p95_ms", "0.99": "p99_ms"}
_PERCENTILES = frozenset(QUANTILES.values())
#: Only a shard elsewhere has this series in a front: its requests there are those that are offered to the shard's own servers.
REMOTE = "recsplit_remote_rows"

#: A page has some fifty lines a model, of which these are twenty: the others aren't parsed.
_WANTED = tuple(f"{name}{{" for name in (*COUNTERS, PENDING, SUMMARY, REMOTE))


@dataclass(frozen=True)
class Page:
    """One server's page. `values`: by model, the totals of COUNTERS, "pending" and the percentiles that are known; `remote`: models that
    only stand in for other servers'."""

    at_s: float
    values: Mapping[str, Mapping[str, float]]
    remote: frozenset[str]


#: What a series is here: its model, and the name of the value in a page ("" for REMOTE, which only marks the model).
_Place = tuple[str, str]


class Reader:
    """Reads one server's page again and again. What a series' name and labels mean is parsed once: at 200 models that is 80 of 90 ms."""

    def __init__(self) -> None:
        self._places: dict[str, _Place | None] = {}

    def read(self, text: str, at_s: float) -> Page:
        """Read a page. Raises ValueError where it isn't Prometheus' text format, or has nothing of Triton's."""
        places: dict[str, _Place | None] = {}
        values: dict[str, dict[str, float]] = {}
        remote = set()
        for line in text.splitlines():
            if not line.startswith(_WANTED):
                continue
            series, _, number = line.rpartition(" ")
            place = self._places[series] if series in self._places else _place(line)
            places[series] = place
            if place is None:
                continue
            model, key = place
            if not key:
                remote.add(model)
            elif math.isfinite(value := float(number)):  # NaN: a summary without queries in its minute
                of = values.setdefault(model, {})
                of[key] = max(of.get(key, 0.0), value / 1000) if key in _PERCENTILES else of.get(key, 0.0) + value
        self._places = places  # only those that are there still: models come and go
        if not places:
            raise ValueError("nothing on it is a series of Triton's")
        return Page(at_s, values, frozenset(remote))


def _place(line: str) -> _Place | None:
    """What one line is of; None where nothing here needs it. Raises ValueError where it isn't Prometheus' text format."""
    for family in text_string_to_metric_families(line + "\n"):
        for sample in family.samples:
            if sample.timestamp is not None:
                raise ValueError(f"a sample with a time, which Triton never writes: {line}")
            model = sample.labels.get("model")
            if model is None:
                return None
            if sample.name == REMOTE:
                return model, ""
            key = QUANTILES.get(sample.labels.get("quantile", "")) if sample.name == SUMMARY else COUNTERS.get(sample.name, "pending")
            return None if key is None else (model, key)
    return None
