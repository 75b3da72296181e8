"""Normalizing: rewrites that come twice in one model, and what they are called."""

import numpy as np
import pytest

from tests.graph.small import loaded, proto, session, table

TWICE = {
    "two squeezes of one value": "x = Gather(t, ids) u = Unsqueeze(x, two) a = Squeeze(u) b = Squeeze(u) y = Add(a, b)",
    "two GatherNDs by one index": "i = Unsqueeze(ids, one) k = Add(i, zero) a = GatherND(t, k) b = GatherND(s, k) y = Add(a, b)",
}


@pytest.mark.parametrize("nodes", TWICE.values(), ids=TWICE)
def test_what_is_rewritten_twice_gets_two_names(nodes: str) -> None:
    """Both once ended in "already registered"."""
    arrays = {"t": table(50, 8), "s": table(50, 8, seed=1), "one": np.array([1]), "two": np.array([2]), "zero": np.array(0)}
    source = proto(f"(int64[N] ids) => (float[N,8] y) {{ {nodes} }}", arrays)
    ids = np.array([3, 0, 49, 3])
    expected = session(source)({"ids": ids})["y"]
    assert np.array_equal(session(loaded(source))({"ids": ids})["y"], expected)
