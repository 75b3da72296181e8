"""What a profile asks a server: requests of growing sizes, for the ensemble and for each of its parts."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import ids
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit_perf.traffic import connection
from recsplit_perf.traffic.queries import request
from recsplit_perf.traffic.wire import Wire

Arrays = dict[str, NDArray[Any]]

#: Different inputs at each size, so that caches don't hold all their rows.
DISTINCT = 8


@dataclass(frozen=True)
class Point:
    """The requests of one size: of the ensemble, gRPC's and HTTP's, and of each sub-model by name; bytes of one answer of the ensemble."""

    rows: int
    whole: list[bytes]
    http: list[bytes]
    parts: dict[str, list[bytes]]
    inputs: dict[str, Arrays]
    response_bytes: int


def sizes(largest: int) -> list[int]:
    """1, 2, 4, .. up to and with `largest`."""
    return [*(2**n for n in range(largest.bit_length()) if 2**n < largest), largest]


def asked(wire: Wire, plan: Plan, rows: int, law: ids.Skew, rng: np.random.Generator) -> Point:
    """Requests of one size; a part's inputs are what the parts before it answer."""
    draw = samples.by_law(law, rng)
    distinct = DISTINCT if rows <= 256 else 3  # larger ones fill memory, and fewer of them fill the caches
    whole, http, parts = [], [], defaultdict(list)
    first: dict[str, Arrays] = {}
    for _ in range(distinct):
        inputs = samples.rows(plan, rows, rng, draw=draw)
        whole.append(request(plan.name, plan.inputs, inputs))
        http.append(connection.request(plan.name, plan.inputs, inputs))
        known = dict(inputs)
        for part in plan.submodels:
            parts[part.name].append(request(part.name, part.inputs, known))
            first.setdefault(part.name, {tensor.name: known[tensor.name] for tensor in part.inputs})
            if part is not plan.dense:
                known |= wire.arrays(parts[part.name][-1])
    return Point(rows, whole, http, dict(parts), first, len(wire.ask(whole[0])))


def gathers(plan: Plan, law: ids.Skew, rng: np.random.Generator) -> float:
    """Table rows that a row of the inputs reads, in the mean."""
    inputs = samples.rows(plan, 256, rng, draw=samples.by_law(law, rng))
    lengths = {bags.values: np.asarray(inputs[bags.lengths]) for bags in plan.bags}
    total = 0.0
    for lookup in plan.lookups:
        ragged = next((name for name in lookup.inputs if name in lengths), None)
        if ragged is not None:
            of_features = lengths[ragged][:, slice(*lookup.columns) if lookup.columns else slice(None)]
            total += float(of_features.astype(np.float64).sum(axis=1).mean())
        else:
            total += lookup.width
    return total
