"""How precisely a graph computes: the narrowest float on the way to its outputs, and the same graph in FP64."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes import common

from recsplit.graph.flow import Array, upstream
from recsplit.graph.names import Names
from recsplit.plan.dtypes import TRITON

_NARROW = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
#: A larger constant is a table: its rows are cast when they were read.
_LARGE_BYTES = 1 << 20
#: Constants of the dense model together; more are not brought into memory twice.
_LARGEST_BYTES = 1 << 30
#: Operators that give a narrow float whatever they get.
_FIXED = frozenset("DequantizeLinear DynamicQuantizeLinear QuantizeLinear MatMulInteger ConvInteger QLinearMatMul Scan".split())
_FOLDER = "session.model_external_initializers_file_folder_path"


def half(model: ir.Model) -> str | None:
    """The coarsest dtype of half precision that an output depends on, as Triton calls it (BF16, FP16); None where there is none."""
    values = {value for output in model.graph.outputs for value in upstream(output)}
    dtypes = {_dtype(value) for value in values}
    return next((TRITON[dtype.name] for dtype in (ir.DataType.BFLOAT16, ir.DataType.FLOAT16) if dtype in dtypes), None)


def in_double(path: Path) -> ort.InferenceSession | None:
    """A session that computes the model file in FP64, from the same inputs; None where onnxruntime can't compute it so."""
    model = ir.load(path)
    if any(node.op_type in _FIXED or node.domain not in ("", "ai.onnx") for node in model.graph.all_nodes()):
        return None
    constants = [value for value in model.graph.initializers.values() if _dtype(value) in _NARROW]
    tables = [value for value in constants if value.const_value is not None and value.const_value.nbytes > _LARGE_BYTES]
    if sum(value.const_value.nbytes for value in constants if value not in tables and value.const_value is not None) > _LARGEST_BYTES:
        return None
    names = Names(model.graph)
    for value in constants:
        if value not in tables:
            with np.errstate(invalid="ignore"):  # a signalling NaN is NaN
                tensor = ir.tensor(_array(value).astype(np.float64), name=value.name)
            value.const_value, value.dtype = tensor, ir.DataType.DOUBLE
    for value in [value for value in model.graph.inputs if value.dtype in _NARROW]:
        _cast(names, value)
    for node in model.graph.all_nodes():
        _widen(node)
    for table in tables:
        for node in table.consumers():
            if node.op_type != "Gather" or node.inputs[0] is not table:
                return None
            _cast(names, node.outputs[0])
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.is_graph_output():
                value.dtype = ir.DataType.DOUBLE if value.dtype in _NARROW or value.dtype is None else value.dtype
            else:
                value.type, value.shape = None, None
    common.TopologicalSortPass()(model)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry(_FOLDER, str(path.parent))
    try:
        proto = ir.to_proto(model)
        return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # an operator without a kernel for FP64; onnxruntime raises its own kinds, undocumented
        return None


def _dtype(value: ir.Value) -> ir.DataType | None:
    return value.const_value.dtype if value.const_value is not None else value.dtype


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())


def _cast(names: Names, value: ir.Value) -> None:
    """What reads `value` reads it as FP64."""
    uses = list(value.uses())
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.DOUBLE)})
    cast.name = cast.outputs[0].name = names.fresh(f"{value.name}/double")
    producer, graph = value.producer(), value.graph
    assert graph is not None
    if producer is None:
        graph.append(cast)
    else:
        graph.insert_after(producer, cast)
    for use in uses:
        use.node.replace_input_with(use.idx, cast.outputs[0])


def _widen(node: ir.Node) -> None:
    """Attributes that name a narrow float, or hold one."""
    for name in ("to", "dtype"):
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.type == ir.AttributeType.INT and ir.DataType(attribute.as_int()) in _NARROW:
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.DOUBLE))
    value = node.attributes.get("value")
    if value is not None and value.type == ir.AttributeType.TENSOR and value.as_tensor().dtype in _NARROW:
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.asarray(value.as_tensor().numpy()).astype(np.float64)))
