"""What a remote model tells Prometheus of its shard's replicas, on Triton's own metrics page.

Every count of one process has its own series (label `pid`): Triton keeps no series apart by itself, and two instances of a model
may have one name.
"""

import os
from typing import Any

import triton_python_backend_utils as pb_utils  # exists in the stub process only

FAMILIES = {
    "answered": ("recsplit_remote_calls_answered", "Calls of a shard's replica that were answered", "COUNTER"),
    "failed": ("recsplit_remote_calls_failed", "Calls of a shard's replica that failed, whether another one answered or not", "COUNTER"),
    "answered_us": ("recsplit_remote_call_duration_us", "Time that answered calls took, summed, in us", "COUNTER"),
    "well": ("recsplit_remote_replica_up", "1: the replica is asked; 0: it failed, and is avoided until a probe is answered", "GAUGE"),
    "retries": ("recsplit_remote_retries", "Calls repeated on another replica after a failure", "COUNTER"),
    "hedges": ("recsplit_remote_hedges", "Calls sent to a second replica beside a slow first one", "COUNTER"),
    "lost": ("recsplit_remote_calls_lost", "Calls that no replica answered: their requests got an error", "COUNTER"),
    "skipped": ("recsplit_remote_calls_skipped", "Batches that no call was needed for: none of their rows lies in the shard", "COUNTER"),
    "rows": ("recsplit_remote_rows", "Rows that were asked for", "COUNTER"),
}


class Meters:
    """The series of one model instance. `show` takes totals: each message to Triton costs 50 us, so the calls only count."""

    def __init__(self, model: str) -> None:
        self._labels = {"model": model, "pid": str(os.getpid())}
        self._families = {
            key: pb_utils.MetricFamily(name=name, description=text, kind=getattr(pb_utils.MetricFamily, kind))
            for key, (name, text, kind) in FAMILIES.items()
        }
        self._series: dict[tuple[str, str], Any] = {}
        self._shown: dict[tuple[str, str], float] = {}

    def keep(self, replicas: set[str]) -> None:
        """Let go of the series of replicas that are gone: Triton takes them off its page."""
        for place in [place for place in self._series if place[1] and place[1] not in replicas]:
            del self._series[place], self._shown[place]

    def show(self, key: str, value: float, *, replica: str = "") -> None:
        """Bring one series to `value`, where it has moved; "" for what is not one replica's."""
        place = (key, replica)
        if place not in self._series:
            labels = {**self._labels, "replica": replica} if replica else self._labels
            self._series[place] = self._families[key].Metric(labels=labels)
            self._shown[place] = 0.0
        if value != self._shown[place]:
            if FAMILIES[key][2] == "GAUGE":
                self._series[place].set(value)
            else:
                self._series[place].increment(value - self._shown[place])
            self._shown[place] = value
