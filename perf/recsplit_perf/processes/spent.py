"""Processor time of a server and of all the processes that it has started."""

import os
from pathlib import Path


def processor_seconds(group: int) -> float:
    """Seconds that the processes of a process group have run until now, those that it has lost and waited for too.

    A `Server`'s group is its pid: it is started in one of its own (recsplit.serving.own_group).
    """
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name stands in brackets, and may hold anything: what follows it is numbers (proc_pid_stat(5), fields 3 and on).
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
