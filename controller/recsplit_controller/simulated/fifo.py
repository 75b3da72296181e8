"""First in, first out: queries begin, in their order, at whichever unit is free first. Compiled by numba where that is installed."""

import importlib
from collections.abc import Callable
from typing import Any


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        numba = importlib.import_module("numba")
    except ModuleNotFoundError:  # without the extra `capacity` it is plain Python, a hundred times as slow
        return function
    compiled: Callable[..., Any] = numba.njit(cache=True)(function)
    return compiled


@_compiled
def serve(free_s: Any, due_s: Any, service_s: Any, until_s: float, begun_s: Any) -> int:
    """Begin what can begin before `until_s`, and return how many queries that is.

    free_s, float64 [units]: when each unit is free, moved on; due_s and service_s, float64 [queries], in order of arrival; begun_s,
    float64 [queries]: when each begins, written.
    """
    for query in range(len(due_s)):
        first = 0
        for unit in range(1, len(free_s)):
            if free_s[unit] < free_s[first]:
                first = unit
        begins = max(due_s[query], free_s[first])
        if begins >= until_s:
            return query
        begun_s[query] = begins
        free_s[first] = begins + service_s[query]
    return len(due_s)
