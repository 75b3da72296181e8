"""Processor time of a process group."""

import subprocess
import sys

from recsplit.serving.own_group import OWN_GROUP
from recsplit_perf.processes.spent import processor_seconds

#: A child of its own works, is waited for, and says what it took; then the parent works, and says so too.
_WORK = "import time; [None for _ in iter(lambda: time.process_time() < 0.3, False)]; print(time.process_time(), flush=True)"
_FAMILY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_WORK!r}]); {_WORK}; input()"


def test_the_time_of_all_processes_of_a_group_and_of_those_that_have_ended() -> None:
    command = [sys.executable, "-c", _FAMILY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **OWN_GROUP) as process:
        assert process.stdout is not None and process.stdin is not None
        said = [float(process.stdout.readline()) for _ in range(2)]
        spent = processor_seconds(process.pid)
        process.stdin.close()
    assert spent >= sum(said) - 0.05  # the kernel tells ticks of 10 ms
    assert processor_seconds(process.pid) == 0
