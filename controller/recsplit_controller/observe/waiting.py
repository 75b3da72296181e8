"""A call with an end: what hangs is left behind in a thread of its own, and isn't called again before it came back."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Caller(Generic[T]):
    """Calls one thing, never twice at once. Its threads are daemons: a server that answers a byte a minute can't hold up the end."""

    def __init__(self) -> None:
        self._answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()
        self._under_way = False

    def begin(self, call: Callable[[], T]) -> None:
        """Start it, unless the one before is still under way; then that one is waited for again."""
        if self._under_way and self._answers.empty():
            return
        while not self._answers.empty():  # an answer that came too late is none of this time
            self._answers.get()
        self._under_way = True
        threading.Thread(target=self._run, args=(call,), daemon=True, name="recsplit-observe").start()

    def answer(self, deadline_s: float) -> T:
        """What it gave, or raised. Raises TimeoutError where it isn't there by `deadline_s` (of time.monotonic)."""
        try:
            value, error = self._answers.get(timeout=max(deadline_s - time.monotonic(), 0.0))
        except queue.Empty:
            raise TimeoutError("no answer in time") from None
        self._under_way = False
        if error is not None:
            raise error
        assert value is not None
        return value

    def _run(self, call: Callable[[], T]) -> None:
        try:
            self._answers.put((call(), None))
        except Exception as error:  # whatever it is, the one who waits is told
            self._answers.put((None, error))
