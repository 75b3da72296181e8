"""Inputs that break models, made from a plan: which fills an input has, and what they put there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsplit.proof import adversary
from tests.build.onnx_models import built
from tests.configs.plans import shop
from tests.graph.small import table

ARRAYS = {"t": table(50, 8), "w": table(8, 1)}


def test_every_input_has_fills_and_every_fill_makes_a_row() -> None:
    plan = shop()
    for tensor in plan.inputs:
        for fill in adversary.fills_of(plan, tensor.name):
            inputs = adversary.batch(plan, [{tensor.name: fill}, {}], np.random.default_rng(0), references=None, draw=None)
            assert {name: len(data) for name, data in inputs.items()} == {item.name: 2 for item in plan.inputs}


def test_only_the_filled_input_of_the_filled_row_is_other_than_usual() -> None:
    usual = adversary.batch(shop(), [{}, {}], np.random.default_rng(0), references=None, draw=None)
    name = next(tensor.name for tensor in shop().inputs if "zeros" in adversary.fills_of(shop(), tensor.name))
    changed = adversary.batch(shop(), [{name: "zeros"}, {}], np.random.default_rng(0), references=None, draw=None)
    assert not changed[name][0].any()
    np.testing.assert_array_equal(changed[name][1], usual[name][1])
    for other in set(usual) - {name}:
        np.testing.assert_array_equal(changed[other], usual[other])


@pytest.mark.parametrize(
    ("fill", "number"), [("first ids", 0), ("last ids", 49), ("ids just beyond", 50), ("id -1", -1), ("id 2**31", 2**31)]
)
def test_ids_are_put_at_every_border_of_their_table(fill: str, number: int, tmp_path: Path) -> None:
    plan = built(tmp_path, "(int64[N,3] ids) => (float[N,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) }", ARRAYS).plan
    inputs = adversary.batch(plan, [{"ids": fill}], np.random.default_rng(0), references=None, draw=None)
    assert inputs["ids"].tolist() == [[number] * 3]


def test_a_model_of_hundreds_of_inputs_gets_a_bounded_number_of_rows() -> None:
    plan = shop()
    dense = next(tensor for tensor in plan.inputs if tensor.dtype == "FP32")
    many = replace(plan, inputs=(*plan.inputs, *(replace(dense, name=f"x{number}") for number in range(300))))
    assert len(adversary.systematic(many)) < 1000 < sum(len(adversary.fills_of(many, tensor.name)) for tensor in many.inputs)


def test_dimensions_that_vary_come_in_the_sizes_of_the_variant(tmp_path: Path) -> None:
    text = "(int64[N,A] a, int64[N,B] b) => (float[N,A,8] y, float[N,B,8] z) { y=Gather(t,a) z=Gather(t,b) }"
    plan = built(tmp_path, text, ARRAYS).plan
    usual = adversary.batch(plan, [{}], np.random.default_rng(0), references=None, draw=None)
    shapes = [[data.shape[1] for data in adversary.resized(plan, usual, variant).values()] for variant in range(3)]
    assert shapes[0] == [usual["a"].shape[1], usual["b"].shape[1]]
    assert shapes[1] == [1, 1]
    assert shapes[2][0] != shapes[2][1]
