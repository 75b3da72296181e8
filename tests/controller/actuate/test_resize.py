"""Counts changed under load: the benchmark's own code, with fewer clients and changes."""

from pathlib import Path

import pytest

from recsplit.repository.find import find
from recsplit_perf.benchmarks import resize
from recsplit_perf.processes.heavier import heavier


def test_no_query_fails_or_hangs_while_counts_change(light: Path) -> None:
    (changing, still), changes = resize.resized(light, changes=4, clients=4)
    assert [change.error for change in changes] == [None] * 4
    assert changing.queries and still.queries
    assert (changing.failed, changing.hung, changing.not_ready) == (0, 0, 0)


@pytest.mark.slow
def test_under_a_backlog_instances_serve_at_once_and_the_call_ends_when_it_is_gone(light: Path, tmp_path: Path) -> None:
    plan = find(light).plan
    seen = resize.saturated(heavier(light, tmp_path / "heavy", plan.dense.name, 40.0), 8, watched_s=6.0)
    assert seen["load_hangs_after_s"] == 6.0
    assert seen["ends_without_load_s"] is not None
    assert seen["count_in_the_end"] == 3
    assert seen["rate_in_the_end"] > 1.5 * seen["rate_before"]
    assert seen["failed"] == 0
