"""How much of a difference is rounding: the same graph computed in FP64.

Two right implementations of one model add in different orders, and what cancels leaves their rounding behind: a bag of 200 vectors
whose sum is nearly zero differs by more than any fixed tolerance. The whole's graph in FP64 tells how far the FP32 one is from what it
stands for; a difference from the source of about that size says nothing about the cut, for a graph that is wrong is as wrong in FP64.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes import common

from recsplit.graph.names import Names
from recsplit.proof.compare import by_row
from recsplit.proof.parts import Array, Run, session

#: A difference of so many times the rounding seen is rounding: torch adds a long bag vector after vector, onnxruntime in blocks, and so
#: comes much closer to FP64. What is wrong is of the size of the answers.
TIMES = 64.0

_NARROW = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
#: A larger constant is a table: its rows are cast when they were read.
_LARGE_BYTES = 1 << 20
#: Constants of the dense model together; more are not brought into memory twice.
_LARGEST_BYTES = 1 << 30
#: Operators that give a narrow float whatever they get.
_FIXED = frozenset("DequantizeLinear DynamicQuantizeLinear QuantizeLinear MatMulInteger ConvInteger QLinearMatMul Scan".split())
_FOLDER = "session.model_external_initializers_file_folder_path"


class Rounding:
    """The whole in FP32 and in FP64, opened when it is first asked for."""

    def __init__(self, whole: Path | None) -> None:
        """`whole`: the model file; None where there is none, so that nothing can be told."""
        self._whole = whole

    @functools.cached_property
    def _runs(self) -> tuple[Run, Run] | None:
        double = None if self._whole is None else in_double(self._whole)
        return None if double is None or self._whole is None else (session(self._whole), double)

    def pair(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]] | None:
        """The answers in FP32 and in FP64; None where the model can't be computed so."""
        return None if self._runs is None else (self._runs[0](inputs), self._runs[1](inputs))

    def limit(self, inputs: Mapping[str, Array], name: str, scale: float) -> float:
        """The relative difference of output `name` that is rounding: TIMES what FP32 is from FP64; 0 where that can't be told."""
        pair = self.pair(inputs)
        if pair is None or name not in pair[0] or pair[0][name].dtype.kind != "f":
            return 0.0
        _, relative = by_row(pair[1][name], pair[0][name], scale)
        return TIMES * float(relative[np.isfinite(relative)].max(initial=0.0))


NOT_TOLD = Rounding(None)


def in_double(path: Path) -> Run | None:
    """The model file computed in FP64, as a function of the same inputs; None where onnxruntime can't compute it so."""
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
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # an operator without a kernel for FP64; onnxruntime raises its own kinds, undocumented
        return None
    inputs = [item.name for item in session.get_inputs()]
    outputs = [item.name for item in session.get_outputs()]

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        answers = session.run(None, {name: feeds[name] for name in inputs})
        return {name: np.asarray(answer) for name, answer in zip(outputs, answers, strict=True)}

    return run


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
