"""The instances of a model that really run in a Triton on this machine: its stub processes, as the kernel tells of them."""

from recsplit_perf.processes.kernel import members


def instances(server_pid: int, model: str) -> set[int]:
    """Process ids of the stubs that serve `model` in the server of this process id, one an instance.

    The counts that the server reports are those that were asked for; these are the processes that run.
    """
    pids = set()
    for pid, arguments in members(server_pid).items():
        if arguments[0].endswith("triton_python_backend_stub") and any(text.startswith(f"{model}_0_") for text in arguments):
            pids.add(pid)
    return pids
