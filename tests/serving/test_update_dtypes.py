"""A running server goes between builds of one model whose tables are stored in different dtypes: each answer is one build's."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import recsplit
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving import Server
from recsplit.zoo import tiny
from recsplit_perf.benchmarks.switches import same

NAME = "shop"
#: By version, from 1 on.
STORED: tuple[tuple[str, ...], ...] = ((), ("int8",), ("int4",), ("int8", "item=int4", "tags=fp16"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dtypes") / "models"
    for stored in STORED:
        recsplit.build(tiny.dlrm, out=path, name=NAME, table_dtype=stored, max_batch_size=16, search_s=0, keep=len(STORED))
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with recsplit.serve(folder) as running:
        yield running


def test_builds_of_other_dtypes_take_each_other_s_place_under_load(server: Server, folder: Path) -> None:
    plan = find(folder).plan
    queries = [samples.rows(plan, rows, np.random.default_rng(rows)) for rows in (1, 5, 40)]  # the last one is split
    expected = {}
    for version in range(1, len(STORED) + 1):
        recsplit.rollback(folder, version=version)
        with recsplit.Client(server.grpc_url, NAME) as client:
            expected[version] = [client.infer(query) for query in queries]
    for one in expected:
        for other in range(1, one):
            assert not same(expected[one][2], expected[other][2]), f"versions {one} and {other} can't be told apart"
    seen: Counter[int] = Counter()
    over = threading.Event()

    def ask(number: int) -> None:
        with recsplit.Client(server.grpc_url, NAME, timeout_s=60) as client:
            while not over.is_set():
                answer = client.infer(queries[number])
                assert same(answer, expected[answer.version][number]), f"not what version {answer.version} answers alone"
                seen[answer.version] += 1

    with ThreadPoolExecutor(len(queries)) as threads:
        asking = [threads.submit(ask, number) for number in range(len(queries))]
        try:
            for version in (3, 1, 4, 2, 1):
                recsplit.rollback(folder, version=version)
                before = seen[version]
                while seen[version] < before + 20 and not any(each.done() for each in asking):
                    threading.Event().wait(0.01)
        finally:
            over.set()
    for each in asking:
        each.result()
    assert set(seen) == set(expected)
