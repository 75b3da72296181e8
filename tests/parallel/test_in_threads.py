"""Threads that take jobs from one line: all are done, an error and a stop end them, and a leaked lock can't make them wait for ever."""

import threading
from collections.abc import Iterator

import pytest

from recsplit.parallel import in_threads


def test_every_job_is_done_once_and_threads_share_them() -> None:
    done: list[int] = []
    both = threading.Barrier(3)

    def work(job: int) -> None:
        if job < 3:
            both.wait(60)  # three threads are at it at once, or this never ends
        done.append(job)

    for _ in in_threads(range(100), work, 3):
        pass
    assert sorted(done) == list(range(100))


def test_the_first_error_ends_the_work_and_is_raised() -> None:
    done: list[int] = []

    def work(job: int) -> None:
        if job == 5:
            raise ValueError("five")
        done.append(job)

    with pytest.raises(ValueError, match="five"):
        for _ in in_threads(range(1_000_000), work, 2):
            pass
    assert len(done) < 1_000_000


def test_an_error_of_the_line_itself_is_raised() -> None:
    def jobs() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(in_threads(jobs(), lambda _job: None, 2))


def test_who_stops_looking_stops_the_work() -> None:
    done: list[int] = []
    working = in_threads(iter(int, 1), done.append, 2)  # an endless line
    next(working)
    working.close()
    count = len(done)
    threading.Event().wait(0.05)
    assert len(done) == count
