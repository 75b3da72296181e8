"""A small model that tests of the engine share: a bag of three ids and a single one, each with a table of its own."""

import numpy as np

from recsplit.graph.cut import Cut
from tests.graph.small import small, table

#: A model of two tables, of so many rows and so wide.
ROWS, DIM = 50, 8
TEXT = (
    "(int64[N,3] ids, int64[N] one) => (float[N,16] y) "
    "{ v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,axis) r=Gather(u,one) y=Concat<axis=1>(s,r) }"
)


def two_tables() -> Cut:
    """The model, cut."""
    return small(TEXT, {"t": table(ROWS, DIM), "u": table(ROWS, DIM, seed=1), "axis": np.array([1])}).cut
