"""Threads of recsplit's own client, for measuring what its users see: answers, failures, silences."""

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import numpy as np

from recsplit.client import Client
from recsplit.client.failures import ServerError
from recsplit.plan.plan import Plan
from recsplit.proof import samples


@dataclass
class Clients:
    """Threads that each have one query of `rows` rows on its way at all times. Times in s of time.monotonic()."""

    url: str
    plan: Plan
    rows: int
    timeout_s: float
    answered: list[tuple[float, float]] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    stop: threading.Event | Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """One client's work."""
        query = samples.rows(self.plan, self.rows, np.random.default_rng(0))
        with Client(self.url, self.plan.name, timeout_s=self.timeout_s) as client:
            while not self.stop.is_set():
                sent = time.monotonic()
                try:
                    client.infer(query)
                    self.answered.append((sent, time.monotonic()))
                except ServerError as error:
                    self.failed.append((time.monotonic(), "hung" if error.kind == "timeout" else str(error)))

    def rate(self, first: float, last: float) -> float:
        """Queries answered a second between two times."""
        return sum(first <= ended < last for _, ended in self.answered) / (last - first)


@contextmanager
def asking(clients: Clients, count: int, *, begin_s: float) -> Iterator[Clients]:
    """So many threads that ask until the end; given back when they have had `begin_s` to get going."""
    threads = [threading.Thread(target=clients.ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        clients.stop.wait(begin_s)
        yield clients
    finally:
        clients.stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def asking_apart(clients: Clients, count: int) -> Iterator[Clients]:
    """So many processes that ask until the end, given back when each has been answered; what they saw is there after the end.

    Threads of one interpreter wait for its lock, and so for each other: the longest silence that they see is mostly their own.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    arguments = (clients.url, clients.plan, clients.rows, clients.timeout_s, stop)
    processes = [context.Process(target=_ask_apart, args=(*arguments, sender), daemon=True) for _, sender in pipes]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()  # the child has its own: where it dies, reading ends
    try:
        for receiver, _ in pipes:
            receiver.recv()
        yield clients
    finally:
        stop.set()
        for receiver, _ in pipes:
            answered, failed = receiver.recv()
            clients.answered += answered
            clients.failed += failed
        for process in processes:
            process.join()


def _ask_apart(url: str, plan: Plan, rows: int, timeout_s: float, stop: Event, sender: Connection) -> None:
    client = Clients(url, plan, rows, timeout_s, stop=stop)
    thread = threading.Thread(target=client.ask)
    thread.start()
    while thread.is_alive() and not client.answered and not client.failed:
        thread.join(0.01)
    sender.send(None)
    thread.join()
    sender.send((client.answered, client.failed))
