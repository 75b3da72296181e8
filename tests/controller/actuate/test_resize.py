"""Counts changed under load: the benchmark's own code, with fewer clients and changes."""

from pathlib import Path

import pytest

from recsplit.repository.find import find
from recsplit_perf.benchmarks import resize
from recsplit_perf.processes.heavier import heavier


def test_no_query_fails_or_hangs_while_counts_change(light: Path) -> None:
    (changing, still), changes = resize.resized(light, changes=4, clients=4)
    assert [change.error for change in changes] == [None] * 4
    assert all(change.kept >= min(change.before, change.after) for change in changes), "a reload, not an update in place"
    assert changing.queries and still.queries
    assert (changing.failed, changing.hung, changing.not_ready) == (0, 0, 0)


@pytest.mark.slow
def test_in_tritons_own_way_a_backlog_holds_up_the_load_and_nothing_else(light: Path, tmp_path: Path) -> None:
    plan = find(light).plan
    seen = resize.saturated(heavier(light, tmp_path / "heavy", plan.dense.name, 40.0), 8, resize.TRAP, watched_s=6.0)
    # The trap: the load call hangs, and the server tells the old count, though the new instances serve.
    assert seen["load_hangs_after_s"] == 6.0
    assert seen["count_told_meanwhile"] == 1
    assert seen["rate_in_the_end"] > 1.5 * seen["rate_before"]
    # Survived: the other model changes meanwhile, nothing fails, and the load ends when the backlog does.
    assert seen["other_model_s"] is not None
    assert seen["failed"] == 0
    assert seen["ends_without_load_s"] is not None
    assert seen["count_in_the_end"] == 3


@pytest.mark.slow
def test_a_backlog_holds_up_no_load_of_a_server_that_recsplit_started(light: Path, tmp_path: Path) -> None:
    plan = find(light).plan
    seen = resize.saturated(heavier(light, tmp_path / "heavy", plan.dense.name, 40.0), 8, watched_s=6.0)
    assert seen["load_hangs_after_s"] is None
    assert seen["count_told_meanwhile"] == 3
    assert seen["rate_in_the_end"] > 1.5 * seen["rate_before"]
    assert seen["failed"] == 0
