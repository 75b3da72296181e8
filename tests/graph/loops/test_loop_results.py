"""What collapsing keeps, what it leaves behind, and what it never touches."""

import logging
from pathlib import Path

import onnx_ir as ir
import pytest
import torch

from recsplit.graph.loops import collapse_loops
from recsplit.load.normalize import normalize
from tests.graph.exports import (
    DIM,
    EXPORTERS,
    RAGGED,
    RECTANGLES,
    ROWS,
    assert_answers_as_torch,
    bag,
    bag_nodes,
    bags_of_every_mode,
    collapsed,
    dynamo,
)

both = pytest.mark.parametrize("exporter", EXPORTERS)


@both
@pytest.mark.parametrize(
    ("dtype", "kind", "tolerance"), [(torch.float64, ir.DataType.DOUBLE, 1e-12), (torch.float16, ir.DataType.FLOAT16, 2e-3)]
)
def test_tables_keep_their_precision(exporter: str, dtype: torch.dtype, kind: ir.DataType, tolerance: float) -> None:
    """The new exporter rounds doubles to floats in its Loop; the node doesn't."""
    module = bag("mean", dtype=dtype)
    model = EXPORTERS[exporter](module, RAGGED[0])
    assert [node.outputs[0].dtype for node in collapsed(model)] == [kind]
    assert_answers_as_torch(model, module, *RAGGED, tolerance=tolerance)


def test_rows_of_a_half_table_that_are_used_as_floats() -> None:
    """The new exporter's Loop makes floats of a half table; without the Cast behind it that is what the model gets."""
    model = dynamo(bag("sum", dtype=torch.float16), RAGGED[0])
    (joined,) = (node for node in model.graph if node.op_type == "ConcatFromSequence")
    floats = joined.outputs[0]
    name = floats.name
    assert name
    floats.type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.outputs.append(floats)
    collapsed(model)
    assert [value.dtype for value in model.graph.outputs] == [ir.DataType.FLOAT16, ir.DataType.FLOAT]
    assert model.graph.outputs[1].name == name


@both
def test_the_result_keeps_its_name_dtype_and_shape(exporter: str) -> None:
    model = EXPORTERS[exporter](bag("sum"), RECTANGLES[:1])
    (before,) = model.graph.outputs
    known = before.name, before.dtype
    (node,) = collapsed(model)
    (after,) = model.graph.outputs
    assert after is node.outputs[0]
    assert (after.name, after.dtype) == known
    rows = model.graph.inputs[0].shape
    assert rows is not None and after.shape == ir.Shape([rows[0], DIM])


@both
def test_nothing_of_a_loop_is_left(exporter: str) -> None:
    model = ir.from_proto(bags_of_every_mode(exporter)[0])
    collapsed(model)
    assert [node.op_type for node in model.graph] == ["EmbeddingBag"] * 3
    assert len(model.graph.initializers) == 3
    assert model.opset_imports["recsplit"] == 1


@both
def test_loops_are_read_after_loading_too(exporter: str, caplog: pytest.LogCaptureFixture) -> None:
    """Loading turns Constants into initializers, lifts them out of branches and drops Identities."""
    proto, module = bags_of_every_mode(exporter)
    model = ir.from_proto(proto)
    normalize(model, origin="test")
    caplog.clear()
    collapsed(model)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert_answers_as_torch(model, module, *RAGGED)


@both
def test_shapes_need_not_be_told(exporter: str) -> None:
    model = ir.from_proto(bags_of_every_mode(exporter)[0])
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None
    collapsed(model)


@both
def test_no_table_is_read(exporter: str, tmp_path: Path) -> None:
    model = ir.from_proto(bags_of_every_mode(exporter)[0])
    tables = [value for value in model.graph.initializers.values() if value.shape == ir.Shape([ROWS, DIM])]
    assert len(tables) == 3
    for value in tables:
        assert value.name is not None
        absent = ir.ExternalTensor(
            "absent", 0, 1 << 40, ir.DataType.FLOAT, shape=ir.Shape([1 << 36, DIM]), name=value.name, base_dir=tmp_path
        )
        value.const_value, value.shape = absent, absent.shape
    assert all(record.rewritten for record in collapse_loops(model))
    assert [node.inputs[0] for node in bag_nodes(model)] == tables
