"""The Prometheus beside a fleet follows it: servers that come are scraped, those that go are forgotten."""

import contextlib
from pathlib import Path

import pytest

from recsplit.commands import prometheus_beside
from recsplit.repository.find import find
from tests.kubernetes.prometheus import BINARY, Prometheus
from tests.waiting import until


@pytest.mark.skipif(BINARY is None, reason="prometheus is not installed (Debian's package of that name)")
def test_servers_that_come_and_go_are_targets_that_come_and_go(repository: Path) -> None:
    """Nothing answers at the addresses here: what is a target doesn't depend on that."""
    assert BINARY is not None
    pages: list[tuple[str | None, str]] = [("front", "http://127.0.0.1:9/metrics")]
    prepared = prometheus_beside.Prepared(Path(BINARY), find(repository / "model_repository").plan)
    with contextlib.ExitStack() as stack:
        prometheus = Prometheus(prometheus_beside.start(stack, prepared, lambda: list(pages)))

        def seen() -> set[tuple[str, str]]:
            active_targets = prometheus.get("targets")["activeTargets"]
            return {(target["labels"]["part"], target["labels"]["instance"]) for target in active_targets}

        for part_ports in ({("front", 9), ("0", 10)}, {("0", 10)}):
            pages[:] = [(part, f"http://127.0.0.1:{port}/metrics") for part, port in part_ports]
            expected = {(part, f"127.0.0.1:{port}") for part, port in part_ports}
            until(lambda expected=expected: seen() == expected, lambda expected=expected: f"{expected} instead of {seen()}")  # type: ignore[misc]
