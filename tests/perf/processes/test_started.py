"""A recsplit command that keeps running: it says where it is, and ends when it is asked to."""

from pathlib import Path

import pytest

from recsplit.errors import RecsplitError
from recsplit_perf.processes.kernel import members
from recsplit_perf.processes.started import started


def test_a_server_says_where_it_is_and_leaves_nothing_behind(tiny: Path, tmp_path: Path) -> None:
    with started(["serve", str(tiny), "--json"], tmp_path / "errors") as server:
        assert server.said["http_url"].startswith("127.0.0.1:")
        pid = server.said["pid"]
        assert members(pid)
    assert server.process.poll() is not None
    assert not members(pid)


def test_a_command_that_fails_is_told_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(RecsplitError) as error, started(["serve", str(tmp_path / "absent"), "--json"], tmp_path / "errors"):
        pass
    assert "absent" in (error.value.detail or "")
    assert "Traceback" not in (error.value.detail or "")
