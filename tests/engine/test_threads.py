"""Many threads on one model while its workers change: every answer is right, and none is lost."""

import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from recsplit.engine.compilation import SOURCES, compilers, unavailable
from recsplit.engine.library import Refused
from tests.engine.models import answered, opened, written
from tests.graph.small import small, table

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def test_answers_hold_while_workers_change(tmp_path: Path) -> None:
    text = "(int64[N,20] ids) => (float[N,32] y) { v=Gather(t,ids) y=ReduceSum<keepdims=0>(v,axis) }"
    cut = small(text, {"t": table(5000, 32), "axis": np.array([1])}).cut
    config = written(cut, tmp_path)
    random = np.random.default_rng(0)
    requests = [{"ids": random.integers(0, 5000, (rows, 20))} for rows in (1, 3, 700, 64, 2000)]
    problems: list[str] = []
    with opened(tmp_path, config) as model:
        want = [answered(model, [request])[0]["embeddings_32"] for request in requests]

        def ask(number: int) -> None:
            for turn in range(60):
                chosen = [(number + turn + place) % len(requests) for place in range(1 + turn % 3)]
                for place, answer in zip(chosen, model.run([requests[place] for place in chosen]), strict=True):
                    if isinstance(answer, Refused) or not np.array_equal(answer["embeddings_32"], want[place]):
                        problems.append(f"{number} {turn} {answer}")

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        turn = 0
        while any(thread.is_alive() for thread in threads):
            model.set_workers(1 + turn % 5)
            turn += 1
        for thread in threads:
            thread.join()
    assert problems == []


def test_a_batch_that_is_over_before_a_helper_looks_is_nobodys(tmp_path: Path) -> None:
    """workers.cc, a program of its own: a helper that looked twice for what it was offered read behind the end, in some seconds."""
    compiler = next((compiler for compiler in compilers() if not compiler.zig), None)
    if compiler is None:
        pytest.skip("there is no C++ compiler of the system's")
    program, source = tmp_path / "workers", Path(__file__).with_name("workers.cc")
    flags = ["-std=c++17", "-O2", "-pthread", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", f"-I{SOURCES}"]
    subprocess.run([*compiler.command, *flags, str(source), str(SOURCES / "workers.cc"), "-o", str(program)], check=True)
    done = subprocess.run([program, "5"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
