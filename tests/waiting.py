"""Waiting for what comes in its own time."""

import time
from collections.abc import Callable

#: Long, since beside other load everything takes longer, and only a test that fails waits so long.
WITHIN_S = 120.0


def until(condition: Callable[[], object], what: str | Callable[[], str], within_s: float = WITHIN_S) -> None:
    """Return once `condition` holds; fail, saying `what` never came, where it doesn't in `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"never: {what if isinstance(what, str) else what()}"
        time.sleep(0.02)
