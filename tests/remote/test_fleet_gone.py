"""All shards of a fleet gone at once: a front of the engine keeps nothing of the queries that fail, where an ensemble did (core #466)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recsplit.client import Client
from recsplit.client.failures import ServerError
from recsplit.configs.fleet import Asking
from recsplit.engine.compilation import unavailable
from recsplit.serving.fleet.fleet import serve_fleet
from recsplit_perf.processes import kernel
from tests.remote import engine_fleet, sharded
from tests.remote.test_fleet import COLD, HOT, answers, ask, kill, queries
from tests.waiting import until

FAILURES = 1000
ROWS = sharded.BATCH
#: Of one query: its ids, their places, and what two shards give.
QUERY_BYTES = ROWS * (4 * 8 + 4 * 4 + 2 * len(sharded.WIDTHS) * sharded.DIM * 4)


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
def test_a_thousand_failed_queries_leave_nothing_behind(tmp_path: Path) -> None:
    repository, replicas = engine_fleet.write(tmp_path), {"front": 1, HOT: 1, COLD: 1}
    with serve_fleet(repository, replicas=replicas, logs=tmp_path, asking=Asking(probe_ms=100)) as fleet:
        front, url = fleet.member("front"), fleet.fronts[0].grpc_url
        assert front.server is not None

        def fail(seed: int, count: int = FAILURES // 4) -> int:
            refused = 0
            with Client(url, sharded.NAME, timeout_s=60) as client:
                for ids in queries(count, ROWS, seed=seed):
                    with pytest.raises(ServerError, match="no replica answers"):
                        ask(client, ids)
                    refused += 1
            return refused

        with Client(url, sharded.NAME) as client:
            for ids in queries(50, ROWS):
                ask(client, ids)
        for part in (HOT, COLD):
            kill(fleet.member(part))
        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(fail, range(4))) == FAILURES
        open_files = len(list(Path(f"/proc/{front.server.pid}/fd").iterdir()))
        before = kernel.pss_bytes(front.server.pid)
        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(fail, range(4))) == FAILURES
        assert kernel.pss_bytes(front.server.pid) - before < FAILURES * QUERY_BYTES
        assert len(list(Path(f"/proc/{front.server.pid}/fd").iterdir())) <= open_files + 8
        for part in (HOT, COLD):
            fleet.start_member(fleet.member(part))
        until(lambda: answers(url, [1, 2, 3, 900]), "answers of shards that are back")
        fleet.drain(front)
        assert "successfully unloaded 'shop'" in front.server.log.read_text()  # which a query that is never let go would prevent
