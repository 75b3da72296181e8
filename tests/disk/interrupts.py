"""Ctrl-C between any two steps: work is interrupted before a given line of a module, or as one of its functions returns."""

import itertools
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any


def interrupted(step: int, work: Callable[[], object], *modules: ModuleType) -> bool:
    """Do `work`, with a KeyboardInterrupt at its `step`th line or return in `modules`. False where it ended before that."""
    files = {module.__file__ for module in modules}
    steps = itertools.count()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event in {"line", "return"} and next(steps) == step:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
