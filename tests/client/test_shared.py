"""One client in threads, tasks, forked and spawned processes: each gets its own answers."""

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from recsplit.client import AsyncClient, Client
from recsplit.errors import InputError
from recsplit.serving import Server

#: Four workers ask for numbers of their own; a line for each that got another's, or an error.
PROGRAM = """
import os, signal, sys
import numpy as np
from recsplit.client import Client
protocol, url, answers = sys.argv[1], sys.argv[2], int(sys.argv[3])
def ask(client, number):
    return client.infer({"x": np.full((1, 3), number, np.float32), "ids": np.full((1, 2), number)})["same_ids"].tolist()
client = Client(url, "plain", protocol, timeout_s=60).__enter__()
assert ask(client, 9) == [[9, 9]]
for worker in range(4):
    if os.fork() == 0:
        signal.alarm(600)
        wrong = [answer for _ in range(answers // 4) if (answer := ask(client, worker)) != [[worker, worker]]]
        sys.stdout.write(f"worker {worker}: {len(wrong)} of another\\n")
        sys.stdout.flush()
        os._exit(0)
for _ in range(answers // 4):
    assert ask(client, 9) == [[9, 9]]
codes = [os.wait()[1] for _ in range(4)]
client.close()
sys.exit(any(codes))
"""


#: How many answers each way of sharing a client is tried with.
ANSWERS = pytest.mark.parametrize("answers", [400, pytest.param(10_000, marks=pytest.mark.slow)])


@ANSWERS
def test_forked_workers_get_their_own_answers(protocol: str, url: str, tmp_path: Path, answers: int) -> None:
    program = tmp_path / "workers.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program, protocol, url, str(answers)], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n"))[1:] == [f"worker {worker}: 0 of another" for worker in range(4)]


def ask_in_a_spawned_process(client: Client | AsyncClient, number: int, answers: int) -> list[Any]:
    query: dict[str, ArrayLike] = {"x": np.full((1, 3), number, np.float32), "ids": np.full((1, 2), number)}

    async def ask() -> Any:
        assert isinstance(client, AsyncClient)
        async with client:
            return [(await client.infer(query))["same_ids"].tolist() for _ in range(answers)]

    if isinstance(client, AsyncClient):
        return list(asyncio.run(ask()))
    with client:
        return [client.infer(query)["same_ids"].tolist() for _ in range(answers)]


@ANSWERS
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_spawned_workers_get_their_own_answers(protocol: str, url: str, kind: type[Client] | type[AsyncClient], answers: int) -> None:
    client = kind(url, "plain", protocol, timeout_s=60, on_unknown="mark")  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(client))  # noqa: S301
    assert (again.url, again.model, again.protocol, again.timeout_s, again.on_unknown) == (url, "plain", protocol, 60, "mark")
    if isinstance(client, Client):
        assert ask_in_a_spawned_process(client, 9, 1) == [[[9, 9]]]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers:
        each = answers // 2
        by_worker = list(workers.map(ask_in_a_spawned_process, [client] * 2, range(2), [each] * 2))
    assert by_worker == [[[[number, number]]] * each for number in range(2)]


@ANSWERS
def test_threads_get_their_own_answers(protocol: str, url: str, answers: int) -> None:
    with Client(url, "plain", protocol, timeout_s=60) as client, ThreadPoolExecutor(8) as threads:  # type: ignore[arg-type]

        def ask(number: int) -> bool:
            query: dict[str, ArrayLike] = {"x": np.full((1, 3), number, np.float32), "ids": np.full((1, 2), number)}
            return client.infer(query)["same_ids"].tolist() == [[number, number]]

        assert all(threads.map(ask, range(answers)))


@ANSWERS
def test_tasks_get_their_own_answers(protocol: str, url: str, answers: int) -> None:
    async def main() -> list[bool]:
        async with AsyncClient(url, "plain", protocol, timeout_s=600) as client:  # type: ignore[arg-type]
            at_once = asyncio.Semaphore(32)

            async def ask(number: int) -> bool:
                query: dict[str, ArrayLike] = {"x": np.full((1, 3), number, np.float32), "ids": np.full((1, 2), number)}
                async with at_once:
                    return bool((await client.infer(query))["same_ids"].tolist() == [[number, number]])

            return await asyncio.gather(*(ask(number) for number in range(answers)))

    assert all(asyncio.run(main()))


def test_an_async_client_of_another_process_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def used_after_a_fork() -> None:
        async with AsyncClient(server.grpc_url, "plain") as client:
            query: dict[str, ArrayLike] = {"x": np.ones((1, 3), np.float32), "ids": np.ones((1, 2), np.int64)}
            await client.infer(query)
            process = os.getpid()
            monkeypatch.setattr(os, "getpid", lambda: process + 1)
            try:
                with pytest.raises(InputError, match="used before the process was forked"):
                    await client.infer(query)
            finally:
                monkeypatch.undo()

    asyncio.run(used_after_a_fork())
