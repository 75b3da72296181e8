"""DeepRecSched for a router: the rows of a part, and from how many rows on a query goes whole to another variant. Pure.

Seeds 2b: the size of a part is climbed first, and then the threshold with it, which the paper raises from 1 (every query is large).
"""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from recsplit.capacity.search import Throughput
from recsplit.errors import InputError
from recsplit.plan.routing import Routing
from recsplit.tuning.climb import Climb, climb

#: Parts and thresholds that are worth a try, in rows.
PARTS = (16, 32, 64, 128, 256, 512, 1024, 2048)
THRESHOLDS = (1, 64, 128, 256, 384, 512, 768, 1024)


@dataclass(frozen=True)
class Split:
    """`split_rows`: the most rows of a part of an ordinary query. `large_rows`: of the smallest query that is large; 0: none is."""

    split_rows: int
    large_rows: int

    def __str__(self) -> str:
        large = f", large from {self.large_rows} rows" if self.large_rows else ""
        return f"parts of {self.split_rows} rows{large}"


@dataclass(frozen=True)
class Scheduled:
    """Both climbs, the second one where there is a variant for large queries; and the best of all."""

    parts: Climb
    large: Climb | None

    @property
    def best(self) -> Split:
        """The largest rate; none is large where no threshold is better than none."""
        parts = self.parts.best
        if self.large is None or self.large.best.throughput.rate <= parts.throughput.rate:
            return Split(parts.value, 0)
        return Split(parts.value, self.large.best.value)


def of_routing(routing: Routing, most_rows: int) -> Split:
    """What a router does with ordinary queries: the smallest part of its variants that have a share; `most_rows` where they have none."""
    sizes = [variant.split_rows or most_rows for variant in routing.variants if variant.weight > 0 and not _is_large(routing, variant.name)]
    return Split(min(sizes, default=most_rows), routing.large_rows)


def changed(routing: Routing, split: Split) -> Routing:
    """The same router with these. Raises InputError where queries should be large and no variant is theirs."""
    if split.large_rows and not routing.large_variant:
        raise InputError("the router has no variant for large queries", hint="recsplit route DIR --large ROWS=VARIANT names one")
    variants = tuple(
        variant if _is_large(routing, variant.name) else dataclasses.replace(variant, split_rows=split.split_rows)
        for variant in routing.variants
    )
    return dataclasses.replace(routing, variants=variants, large_rows=split.large_rows)


def scheduled(routing: Routing, most_rows: int, evaluate: Callable[[Split], Throughput], *, largest: int) -> Scheduled:
    """Both climbs. `most_rows`: the most that a model takes; `largest`: of the queries, which no threshold needs to exceed."""
    sizes = sorted({*(size for size in PARTS if size < most_rows), most_rows})
    parts = climb(sizes, lambda rows: evaluate(Split(rows, 0)))
    if not routing.large_variant:
        return Scheduled(parts, None)
    thresholds = list(itertools.takewhile(lambda rows: rows <= largest, THRESHOLDS))
    return Scheduled(parts, climb(thresholds, lambda rows: evaluate(Split(parts.best.value, rows))))


def _is_large(routing: Routing, variant: str) -> bool:
    return variant == routing.large_variant
