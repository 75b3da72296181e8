"""Vectors that the dense model puts side by side again are not taken apart on the way."""

from collections import Counter

import numpy as np
import pytest

from tests.graph.small import agrees, table

TABLES = {name: table(40, 8, seed=seed) for seed, name in enumerate("tuv")}
LIMITS = dict.fromkeys(("i", "j", "k"), 40)
ONE = {"one": np.array([1], dtype=np.int64)}
HEAD = "(int64[N] i, int64[N] j, int64[N] k, float[N,8] x)"
READ = "a=Gather(t,i) b=Gather(u,j) c=Gather(v,k)"
STACK = "e=Unsqueeze(a,one) f=Unsqueeze(b,one) g=Unsqueeze(c,one) z=Unsqueeze(x,one)"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{HEAD} => (float[N,4,8] y) {{ {READ} {STACK} y=Concat<axis=1>(z,e,f,g) }}", {"Concat": 1, "Unsqueeze": 1}),
        (f"{HEAD} => (float[N,4,8] y) {{ {READ} {STACK} y=Concat<axis=-2>(e,f,g,z) }}", {"Concat": 1, "Unsqueeze": 1}),
        (f"{HEAD} => (float[N,32] y) {{ {READ} y=Concat<axis=1>(a,b,c,x) }}", {"Concat": 1, "Flatten": 1}),
        (
            f"{HEAD} => (float[N,24] y, float[N,8] s) {{ {READ} y=Concat<axis=-1>(a,b,c) s=Neg(x) }}",
            {"Flatten": 1, "Identity": 1, "Neg": 1},
        ),
        (
            f"{HEAD} => (float[N,24] y, float[N,8] s) {{ {READ} y=Concat<axis=1>(x,a,b) s=Neg(c) }}",
            {"Concat": 1, "Flatten": 1, "Slice": 1, "Split": 1, "Squeeze": 1, "Neg": 1},
        ),
        # Not in the order in which they cross.
        (f"{HEAD} => (float[N,32] y) {{ {READ} y=Concat<axis=1>(c,b,a,x) }}", {"Concat": 1, "Split": 1, "Squeeze": 3}),
        (f"{HEAD} => (float[N,8] y) {{ {READ} d=Add(a,b) e=Add(d,c) y=Add(e,x) }}", {"Add": 3, "Split": 1, "Squeeze": 3}),
    ],
)
def test_a_run_of_neighbours_stays_one_tensor(text: str, left: dict[str, int]) -> None:
    parts = agrees(text, {**TABLES, **ONE}, LIMITS, unknown_ids="zero")
    assert Counter(node.op_type for node in parts.cut.dense.graph) == left
