"""Ctrl-C, as a real SIGINT to a real process: the command ends with exit code 130 and one line that says what was kept, and leaves nothing.

There is no bound on the seconds: tests run beside heavy load. Whatever outlives the command is found by its name.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsplit.capacity.profile import to_json
from tests.bad_input.kinds import contents
from tests.capacity.profiles import small
from tests.conftest import REPOSITORY

WORKLOAD = str(REPOSITORY / "perf/scenarios/elasticrec.toml")
END_S = 120


@dataclass(frozen=True)
class Case:
    """A command that gets SIGINT once it has written a line to stderr that begins with `at`, and `after_s` later.

    `said`: how its error goes on. `left`: names of what may be new in its folder.
    """

    id: str
    arguments: str
    at: str
    said: str
    after_s: float = 0.2
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.id


BURSTS = str(REPOSITORY / "perf/scenarios/half-hourly-bursts.txt")
BUILD = "build recsplit.zoo.tiny:dlrm -o models --name shop --search-s 600"
CASES = [
    Case("build, loading", BUILD, "loading", "nothing was published, and models is as it was", 0.0),
    Case("build, writing", BUILD, "writing", "nothing was published, and models is as it was", 0.0),
    Case("build, proving", BUILD, "proving", "nothing was published, and models is as it was", 0.0),
    Case("build, searching", BUILD, "searching", "nothing was published, and models is as it was", 0.0),
    Case(
        "build anew",
        "build recsplit.zoo.tiny:dlrm -o new --name shop --search-s 600",
        "searching",
        "nothing was published, and new is as it was",
        0.0,
    ),
    Case("verify", "verify models --repeats 100000", "verifying", "", 3.0),
    Case("verify --served", "verify models --served --repeats 100000", "verifying", "", 3.0),
    Case("profile, starting", "profile models -o profile.json", "Measuring", "profile.json was not written", 0.0),
    Case("report, profiling", f"report models --workload {WORKLOAD} -o report.html", "Profiling", "report.html was not written", 0.5),
    Case(
        "report, offering",
        f"report models --workload {WORKLOAD} --profile p.json --seconds 600 -o report.html",
        "Offering",
        "report.html was not written; what was measured is in report",
        2.0,
        ("report",),
    ),
    Case("forecast", f"forecast {BURSTS} --train weights.safetensors", "Training", "weights.safetensors was not written", 1.0),
    Case("perf", "perf run models --batch 8 --seconds 600", "Loading", "", 1.0),
    Case("perf, starting", "perf run models --batch 8 --seconds 600", "Starting", "", 0.1),
    Case(
        "perf search",
        f"perf search models --workload {WORKLOAD} -o trials --seconds 600",
        "Searching",
        "trials holds no new trial",
        1.0,
        ("trials",),
    ),
    Case("simulate", f"simulate p.json --workload {WORKLOAD} --seconds 300000", "Simulating", "", 1.0),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ctrl_c_ends_a_command_and_says_what_was_kept(case: Case, folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "temporary")
    (tmp_path / "temporary").mkdir()
    (folder / "p.json").write_text(to_json(small()))
    before = contents(folder)
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests may run in the background of a shell, which children inherit
    process = subprocess.Popen(
        [sys.executable, "-m", "recsplit", *case.arguments.split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path / "temporary")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, heard)
    with process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith(case.at):
                break
        time.sleep(case.after_s)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=END_S)[1]
        print(f"{time.monotonic() - sent:.2f} s", said)  # noqa: T201 (pytest shows it where the test fails)
    assert process.returncode == 130
    assert said.splitlines()[-1] == ("Error: interrupted" + (f": {case.said}" if case.said else ""))
    assert "Traceback" not in said
    after = contents(folder)
    assert {path: after[path] for path in after if path.partition("/")[0] not in case.left} == before
    assert processes_of(tmp_path) == []
    temporary = (tmp_path / "temporary").iterdir()
    assert [path.name for path in temporary if path.is_dir() and not path.name.startswith("torchinductor_")] == []  # torch's cache


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder, of whatever hasn't ended within END_S: a guard sweeps up a little after its owner."""
    until = time.monotonic() + END_S
    while True:
        commands = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if str(folder) in command and process.name != str(os.getpid()):
                commands.append(command)
        if not commands or time.monotonic() > until:
            return commands
        time.sleep(0.1)
