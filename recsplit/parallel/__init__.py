"""Threads that take jobs from one line, and that Ctrl-C ends at once.

Not concurrent.futures: it takes a lock in the main thread for every job, and a KeyboardInterrupt between the taking and the `with`
leaves that lock taken (CPython issue 29988). Its threads then wait for it for ever, and the interpreter for them. Here only the threads
take locks, and signals interrupt none of those.
"""

import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Job = TypeVar("Job")

_LOOK_S = 0.1
_NONE_LEFT = object()


def in_threads(jobs: Iterable[Job], work: Callable[[Job], None], threads: int) -> Generator[None, None, None]:
    """Call work(job) for every job, from so many threads; yields every tenth of a second, and ends when all are done.

    Whoever stops iterating stops the work after the jobs at hand. Raises what `work`, or taking a job, raised first.
    """
    line = iter(jobs)
    taking = threading.Lock()
    errors: list[BaseException] = []
    ending = threading.Event()

    def take_all() -> None:
        try:
            while not ending.is_set():
                with taking:
                    job = next(line, _NONE_LEFT)
                if job is _NONE_LEFT:
                    return
                work(job)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)
            ending.set()

    started = [threading.Thread(target=take_all, daemon=True) for _ in range(threads)]
    try:
        for thread in started:
            thread.start()
        for thread in started:
            while thread.is_alive():
                thread.join(_LOOK_S)
                yield
    finally:
        ending.set()
        for thread in started:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[0]
