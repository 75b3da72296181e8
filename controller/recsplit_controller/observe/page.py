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
}
PENDING = "nv_inference_pending_request_count"
SUMMARY = "nv_inference_request_summary_us"
QUANTILES = {"0.5": "p50_ms", "0.95": "p95_ms", "0.99": "p99_ms"}
#: Only a front's stand-in for a shard has this series: its requests are those that are offered to the shard's own servers.
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


def parse(text: str, at_s: float) -> Page:
    """Read a page. Raises ValueError where it isn't Prometheus' text format, or has nothing of Triton's."""
    lines = [line for line in text.splitlines() if line.startswith(_WANTED)]
    if not lines:
        raise ValueError("nothing on it is a series of Triton's")
    values: dict[str, dict[str, float]] = {}
    remote = set()
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            model, value = sample.labels.get("model"), sample.value
            if model is None or not math.isfinite(value):  # NaN: a summary without queries in its minute
                continue
            of = values.setdefault(model, {})
            if sample.name in COUNTERS or sample.name == PENDING:
                key = COUNTERS.get(sample.name, "pending")
                of[key] = of.get(key, 0.0) + value
            elif sample.name == REMOTE:
                remote.add(model)
            elif (key := QUANTILES.get(sample.labels.get("quantile", ""), "")) and value >= 0:
                of[key] = max(of.get(key, 0.0), value / 1000)
    return Page(at_s, values, frozenset(remote))
