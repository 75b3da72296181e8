"""What pods do, on this machine: lay out the models of their group, and answer."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np

from recsplit.client import Client
from recsplit.serving import Server
from tests.remote import sharded


def arrange(source: Path, manifests: Path, group: str, target: Path) -> "subprocess.CompletedProcess[str]":
    """What the init container does."""
    environment = {"SOURCE": str(source), "PLAN": str(manifests / "base" / group), "MODELS": str(target), "PATH": os.environ["PATH"]}
    script = manifests / "base" / "arrange.sh"
    return subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True, check=False, timeout=60)


def ask(server: Server, seconds: float) -> tuple[int, float]:
    """Queries with checked answers for so long: how many, and the slowest one in ms."""
    generator, asked, slowest_ms = np.random.default_rng(0), 0, 0.0
    with Client(server.grpc_url, "shop") as client:
        end = time.monotonic() + seconds
        while (start := time.monotonic()) < end:
            ids = generator.integers(0, sharded.ROWS, (3, 4))
            np.testing.assert_allclose(client.infer({"ids": ids})["score"], sharded.expected(ids), rtol=1e-4, atol=1e-4)
            slowest_ms = max(slowest_ms, 1e3 * (time.monotonic() - start))
            asked += 1
    return asked, slowest_ms
