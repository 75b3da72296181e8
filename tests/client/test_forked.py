"""A client that was used before a fork: each process gets its own answers, over connections of its own."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from recsplit.client import AsyncClient
from recsplit.errors import InputError
from recsplit.serving import Server

#: Four workers ask for numbers of their own; a line for each that got another's, or an error.
PROGRAM = """
import os, signal, sys
import numpy as np
from recsplit.client import Client
protocol, url = sys.argv[1:]
def ask(client, number):
    return client.infer({"x": np.full((1, 3), number, np.float32), "ids": np.full((1, 2), number)})["same_ids"].tolist()
client = Client(url, "plain", protocol, timeout_s=10).__enter__()
assert ask(client, 9) == [[9, 9]]
for worker in range(4):
    if os.fork() == 0:
        signal.alarm(60)
        wrong = [answer for _ in range(100) if (answer := ask(client, worker)) != [[worker, worker]]]
        sys.stdout.write(f"worker {worker}: {len(wrong)} of another\\n")
        sys.stdout.flush()
        os._exit(0)
for _ in range(100):
    assert ask(client, 9) == [[9, 9]]
codes = [os.wait()[1] for _ in range(4)]
client.close()
sys.exit(any(codes))
"""


def test_forked_workers_get_their_own_answers(protocol: str, url: str, tmp_path: Path) -> None:
    program = tmp_path / "workers.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program, protocol, url], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n"))[1:] == [f"worker {worker}: 0 of another" for worker in range(4)]


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
