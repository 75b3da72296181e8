"""What work costs on any machine, whatever else runs there: calls, counted."""

import sys
from collections.abc import Callable


def calls(work: Callable[[], object]) -> int:
    """How many calls `work` makes in this thread, of Python's functions and of C's."""
    count = 0

    def notice(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(notice)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
