"""Layers: all tables' rows in one order of heat, cut as a single table would be, so that a shard is one temperature of every table.

A query then calls as many shards as there are layers, not layers times tables.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from recsplit.partition import cost
from recsplit.partition.cost import CostSettings, Piece, ShardLoad
from recsplit.partition.heat import POINTS, Heat
from recsplit.partition.programme import solve


def layers(settings: CostSettings, heats: Sequence[Heat], starts: Sequence[int]) -> tuple[Piece, ...]:
    """The cheapest layers of what lies behind each table's start (an index of its cuts).

    The stretches between neighbouring cuts of all tables are put in the order of reads a byte; within a table that is the order of
    ranks. Every so many stretches a layer may end.
    """
    behind = list(zip(heats, starts, strict=True))
    table = np.repeat(np.arange(len(heats)), [len(heat.cuts) - 1 - start for heat, start in behind])
    if not len(table):
        return ()
    end = np.concatenate([np.arange(start + 1, len(heat.cuts)) for heat, start in behind])
    gathers = np.concatenate([np.diff(heat.gathers[start:]) for heat, start in behind])
    sizes = np.concatenate([np.diff(heat.cuts[start:]) * float(heat.row_bytes) for heat, start in behind])
    by_heat = np.lexsort((end, table, -gathers / sizes))
    ends = np.unique(np.rint(np.linspace(0, len(by_heat), min(POINTS, len(by_heat)) + 1)).astype(np.int64))
    # The cut of each table that each possible end of a layer lies at: [ends, tables], an index of its cuts.
    passed = [np.searchsorted(np.flatnonzero(table[by_heat] == number), ends) for number in range(len(heats))]
    reached = np.array(starts)[None, :] + np.stack(passed, axis=1)
    answers = np.array([cost.answer_bytes(heat) for heat in heats])
    moved = reached[None, :, :] > reached[:, None, :] if settings.prices is not None else None
    answer_bytes = moved @ answers if moved is not None else 0.0
    before = [np.concatenate([[0.0], np.cumsum(values[by_heat])])[ends] for values in (gathers, sizes)]
    between = [np.maximum(values[None, :] - values[:, None], 0.0) for values in before]
    path = solve(cost.of(settings, ShardLoad(between[0], answer_bytes, between[1])), settings.max_shards).path()
    pieces = []
    for low, high in itertools.pairwise(path):
        spans = zip(reached[low].tolist(), reached[high].tolist(), strict=True)
        pieces.append(Piece(tuple((number, first, last) for number, (first, last) in enumerate(spans) if first < last)))
    return tuple(pieces)
