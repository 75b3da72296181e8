"""The dynamic programme: the cheapest way to cut one table's sorted rows into shards (ElasticRec's Algorithm 2, over candidate cuts)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solved:
    """The cheapest partitions of everything behind each cut. `cost` [n + 1]: of the rows from cut i on, in any allowed number of shards.

    The paper's programme runs from the hottest rows on; this one from the coldest, with the same result, and so tells at once what is
    left to pay behind any cut at which the front server's rows may end.
    """

    cost: Numbers
    shards: NDArray[np.int64]  # how many are best from cut i on
    following: NDArray[np.int64]  # [shards + 1, n + 1] the end of the first of so many shards from cut i on

    def path(self, start: int = 0) -> tuple[int, ...]:
        """The cuts of the best partition from cut `start` on: start, ..., n."""
        cuts = [start]
        for left in range(int(self.shards[start]), 0, -1):
            cuts.append(int(self.following[left, cuts[-1]]))
        return tuple(cuts)


def solve(costs: Numbers, max_shards: int) -> Solved:
    """The cheapest partitions into 1 .. max_shards shards. `costs` [n + 1, n + 1]: of a shard from cut i to cut j > i, the rest unread.

    Of partitions that cost the same, one with the fewest shards.
    """
    ends = len(costs)
    allowed = np.where(np.triu(np.ones((ends, ends), dtype=bool), 1), costs, math.inf)
    most = min(max_shards, ends - 1)
    best = np.full((most + 1, ends), math.inf)
    best[0, -1] = 0.0
    following = np.zeros((most + 1, ends), dtype=np.int64)
    for count in range(1, most + 1):
        through = allowed + best[count - 1]
        following[count] = through.argmin(axis=1)
        best[count] = np.take_along_axis(through, following[count][:, None], axis=1)[:, 0]
    following[1] = ends - 1  # one shard is all the rest, also where that costs infinitely much
    shards = best[1:].argmin(axis=0) + 1
    shards[-1] = 0
    return Solved(best.min(axis=0), shards, following)
