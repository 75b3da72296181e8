"""Where a query goes, as the router decides it (backends/native/route.h): the same code, on arrays of this process."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsplit.engine.library import Library

#: One entry a variant: its share of the queries is `weight` of all weights together; `credit` is 0 at the start; `split_rows` 0: queries
#: stay whole.
VARIANT = np.dtype([("weight", np.float64), ("credit", np.float64), ("split_rows", np.int64)])
#: One entry a server: a request of r rows takes a_ms + b_ms * r, `at_once` at a time; `work_ms` and `under_way`: the time that is left of
#: requests without an answer yet, and their number.
SERVER = np.dtype(
    [
        ("a_ms", np.float64),
        ("b_ms", np.float64),
        ("work_ms", np.float64),
        ("under_way", np.int32),
        ("at_once", np.int32),
        ("variant", np.int32),
        ("well", np.int32),
    ]
)
#: One entry a part of a query: its server and variant, its rows, the time that it takes, when it is done from now on, and its server's work
#: before.
PART = np.dtype(
    [
        ("server", np.int32),
        ("variant", np.int32),
        ("rows", np.int64),
        ("ms", np.float64),
        ("done_ms", np.float64),
        ("work_ms", np.float64),
    ]
)

#: Why a query goes nowhere: no server is well, none answers in time, or it would be more parts than there is room for.
Refusal = Literal["nobody", "late", "too many"]
_REFUSALS: dict[int, Refusal] = {-1: "nobody", -2: "late", -3: "too many"}


@dataclass(frozen=True)
class Rules:
    """Queries of at least `large_rows` rows (0: none) go to the variant of that number."""

    large_rows: int = 0
    large_variant: int = 0


def decide(
    library: Library,
    rules: Rules,
    variants: NDArray[np.void],
    servers: NDArray[np.void],
    rows: int,
    within_ms: float | None = None,
    room: int = 4096,
) -> NDArray[np.void] | Refusal:
    """The parts of a query, PART [parts]; `variants` (VARIANT) and `servers` (SERVER) have its credit and work then.

    A refusal changes nothing.
    """
    parts = np.zeros(room, PART)
    count = library.calls.recsplit_route(
        rules.large_rows,
        rules.large_variant,
        variants.ctypes.data,
        len(variants),
        servers.ctypes.data,
        len(servers),
        rows,
        -1.0 if within_ms is None else within_ms,
        parts.ctypes.data,
        room,
    )
    return parts[:count] if count > 0 else _REFUSALS[count]
