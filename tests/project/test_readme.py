"""Every command of the README, run as it is typed there, in the order in which it stands there."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

README = REPOSITORY / "README.md"
#: What a reader has and the README shows in part: a model with its weights, a trace of traffic.
MODEL = """
import torch

class Ranker(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.items, self.mlp = torch.nn.EmbeddingBag(5000, 16, mode="sum"), torch.nn.Linear(16 + 4, 1)

    def forward(self, dense, ids):
        return torch.sigmoid(self.mlp(torch.cat([self.items(ids), dense], dim=1)))

torch.manual_seed(0)
dense, ids = torch.rand(2, 4), torch.randint(5000, (2, 8))
"""
WEIGHTS = "import sys; sys.path.insert(0, '.'); from shop import models; from safetensors.torch import save_file as s; " + "".join(
    f"s(models.Ranker().state_dict(), '{name}.safetensors'); " for name in ("ranker", "tonight")
)
#: Servers and controllers run on until Ctrl-C, beside the commands that follow.
RUNS_ON = re.compile(r"recsplit (serve(?! .*--docker)|control(?! .*--(?:replay|once)))")
READY = {"serve": "Ctrl-C stops", "control": "own metrics and health"}


def commands() -> list[str]:
    """Those that stand indented, without their comments; the session at the top has a test of its own (tests/demo)."""
    lines = re.findall(r"^    (recsplit .*?)\s*(?:  #.*)?$", README.read_text(), re.MULTILINE)
    assert len(lines) > 20
    return lines


@contextlib.contextmanager
def running(command: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A command that runs on, once it has said that it is ready; ended by Ctrl-C, and without a complaint."""
    with subprocess.Popen(
        command.split(), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        ready = READY[command.split()[1]]
        for line in process.stdout:
            said.append(line)
            if ready in line:
                break
        rest = threading.Thread(target=lambda: said.extend(process.stdout or ()))
        rest.start()
        try:
            assert any(ready in line for line in said), "".join(said)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)
            rest.join()
        assert process.returncode == 0, "".join(said)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_command_works_as_it_is_typed(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (block,) = re.findall(r"^```python\n# shop/models.py\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "shop/models.py").write_text(MODEL + block)
    (tmp_path / "perf").symlink_to(REPOSITORY / "perf")
    (tmp_path / "requests_per_second.txt").write_text("\n".join(str(50 + 40 * (second // 60 % 2)) for second in range(3600)))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | {f"RECSPLIT_{command}_SECONDS": "2" for command in ("REPORT", "PERF_SEARCH", "PROFILE")}
    environment["RECSPLIT_PERF_SEARCH_TRIALS"] = "5"
    subprocess.run([sys.executable, "-c", WEIGHTS], cwd=tmp_path, check=True)
    with contextlib.ExitStack() as servers:
        for command in commands():
            if "recsplit serve" in command:
                servers.close()  # one server at a time, as a reader would
            if RUNS_ON.match(command):
                servers.enter_context(running(command, tmp_path, environment))
                continue
            if "--replay" in command:  # two ticks at least are in the journal, and its controller has ended
                journal = tmp_path / "control.jsonl"
                while len(journal.read_text().splitlines()) < 4:
                    threading.Event().wait(0.5)
                servers.close()
            print(command)  # noqa: T201 (pytest shows it where the test fails)
            done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            assert "Traceback" not in done.stderr, command
