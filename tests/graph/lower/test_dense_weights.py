"""Bags whose weights come out of a layer or another lookup: rows cross, and the dense model weighs and sums them."""

from typing import Any

import numpy as np
import pytest

from tests.graph.small import Array, agrees, source_of, table

T, U, W = table(50, 8), table(50, 1), table(8, 1)
ARRAYS: dict[str, Any] = {"t": T, "u": U, "bias": U[:, 0], "w": W, "w3": table(3, 3), "last": np.array([-1])}
WEIGHTS = {
    "of a layer": "h=MatMul(x,w3) k=Softmax(h)",
    "of another table, by the same ids": "h=Gather(u,ids) k=Squeeze(h,last)",
    "of a vector, by the same ids": "k=Gather(bias,ids)",
}


def text(weights: str, padding: int, kind: str = "int64") -> str:
    bag = f'recsplit.EmbeddingBag<mode="sum",padding_idx={padding},include_last_offset=0>(t,ids,,k)'
    return f"({kind}[N,3] ids, float[N,3] x) => (float[N,1] y) {{ {weights} s={bag} y=MatMul(s,w) }}"


@pytest.mark.parametrize("policy", ["error", "zero", "row=7"])
@pytest.mark.parametrize("kind", ["int32", "int64"])
@pytest.mark.parametrize("padding", [-1, 2])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_rows_cross_and_the_answers_are_equal(weights: str, padding: int, kind: str, policy: str) -> None:
    parts = agrees(text(weights, padding, kind), ARRAYS, {"ids": 6}, unknown_ids=policy)  # few ids, so that padding is among them
    of_table = [lookup for lookup in parts.cut.lookups if lookup.table == "t"]
    assert [(lookup.pooling, lookup.direct, lookup.columns) for lookup in of_table] == [("none", True, (0, 3))]
    assert not {"t", "u", "bias"} & {value.name for value in parts.cut.dense.graph.initializers.values()}


def test_padded_slots_count_as_zeros_even_with_weights_that_are_no_numbers() -> None:
    model = text("k=Identity(x)", 2).replace("k=Identity(x)", "h=Tanh(x) k=Add(h,x)")
    parts = agrees(model, ARRAYS, {"ids": 6})
    feeds: dict[str, Array] = {"ids": np.array([[2, 3, 4]]), "x": np.array([[np.nan, 1, 2]], np.float32)}
    assert np.isfinite(parts(feeds)["y"]).all()
    np.testing.assert_allclose(parts(feeds)["y"], source_of(model, ARRAYS)(feeds)["y"], rtol=1e-5)
