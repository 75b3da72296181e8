"""Branches on shapes are settled before the cut; branches on data are not."""

import onnx_ir as ir
import pytest

from recsplit.graph.loops.branches import settle_branches

# squeeze(x, 1) as torch's legacy exporter writes it: only if the dimension is one
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, {width}] x) => (float[batch, rest] y)
<int64 one = {{1}}, int64[1] axis = {{1}}>
{{
    {condition}
    y = If <then_branch = taken () => (float[batch] t) {{ t = Squeeze(x, axis) }},
            else_branch = other () => (float[batch, rest] e) {{ e = Identity(x) }}> (same)
}}
"""
BY_SHAPE = "shape = Shape(x) width = Gather(shape, one) same = Equal(width, one)"
BY_DATA = "total = ReduceSum<keepdims = 0>(x) count = Cast<to = 7>(total) same = Equal(count, one)"
BY_BATCH = "zero = Sub(one, one) shape = Shape(x) size = Gather(shape, zero) same = Equal(size, one)"


# squeeze(x, 0), where dimension 0 is the batch
SQUEEZED_BATCH = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 1] x, float[batch] other) => (float[rest] y)
<int64 one = {1}, int64[1] axis = {0}, int64[1] last = {1}>
{
    shape = Shape(x) size = Gather(shape, axis) same = Equal(size, one)
    y = If <then_branch = taken () => (float[any] t) { t = Squeeze(x, axis) },
            else_branch = other () => (float[batch, 1] e) { e = Identity(x) }> (same)
}
"""


def operators(condition: str, width: int) -> list[str]:
    return settled(TEXT.format(condition=condition, width=width))


def settled(text: str) -> list[str]:
    model = ir.from_onnx_text(text)
    settle_branches(model)
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(("width", "kept"), [(1, "Squeeze"), (3, "Identity")])
def test_a_branch_on_a_fixed_size_goes_the_one_way_it_can(width: int, kept: str) -> None:
    op_types = operators(BY_SHAPE, width)
    assert kept in op_types
    assert "If" not in op_types


def test_a_branch_on_data_stays() -> None:
    assert "If" in operators(BY_DATA, 1)


def test_a_branch_that_a_batch_of_one_takes_differently_stays() -> None:
    assert "If" in operators(BY_BATCH, 3)


def test_a_branch_that_squeezes_a_batch_of_one_away_is_settled_for_every_batch() -> None:
    assert settled(SQUEEZED_BATCH) == ["Shape", "Gather", "Equal", "Identity"]


@pytest.mark.parametrize(
    ("asked", "instead"),
    [
        ("Shape(x)", "Shape(other)"),
        ("Equal(size, one)", "Less(one, size)"),
        ("Gather(shape, axis)", "ReduceProd<keepdims = 0>(shape)"),
        ("Squeeze(x, axis)", "Squeeze(x, last)"),
        ("Squeeze(x, axis)", "Reshape(x, axis)"),
    ],
    ids=["of another value", "more than one row", "not read from the shape", "another axis squeezed", "no squeeze"],
)
def test_a_branch_for_one_row_that_almost_squeezes_it_stays(asked: str, instead: str) -> None:
    assert "If" in settled(SQUEEZED_BATCH.replace(asked, instead))
