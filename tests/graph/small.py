"""Small models as text, cut in memory, and run whole and in parts: what every test of the graph works on.

The text is ONNX's own syntax (onnx.parser) without its header; tables are arrays put in beside it. The source's answer
comes from onnxruntime on the text as it stands, or, where the model has recsplit's own nodes, from onnx's reference
evaluator with torch's embedding_bag.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from recsplit.engine.compilation import unavailable
from recsplit.graph.cut import Cut, cut
from recsplit.load.normalize import normalize
from recsplit.plan.plan import UNKNOWN_IDS
from tests.engine.models import by_engine, comparable, same
from tests.load.reference import evaluate

Array = NDArray[Any]
Feeds = Mapping[str, Array]


def table(rows: int, dim: int, *, seed: int = 0, dtype: Any = np.float32) -> Array:
    """A table of normal numbers; no row of it is like another."""
    return np.random.default_rng([seed, rows, dim]).standard_normal((rows, dim)).astype(dtype)


def proto(text: str, arrays: Feeds, *, opset: int = 17) -> onnx.ModelProto:
    """`text` is `(inputs) => (outputs) { nodes }`; `arrays` become initializers."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "recsplit" : 1, "com.microsoft" : 1, "ai.onnx.ml" : 2]> small '
    model = parser.parse_model(header + text)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items())
    return model


def loaded(model: onnx.ModelProto) -> ir.Model:
    """The IR as the loader returns it."""
    ir_model = ir.from_proto(model)
    normalize(ir_model, origin="small")
    return ir_model


def session(model: onnx.ModelProto | ir.Model, *, threads: int = 1) -> Callable[[Feeds], dict[str, Array]]:
    """A model as a function of inputs by name; inputs that it doesn't have are ignored."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    data = (ir.to_proto(model) if isinstance(model, ir.Model) else model).SerializeToString()
    opened = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in opened.get_outputs()]

    def run(feeds: Feeds) -> dict[str, Array]:
        answers = opened.run(None, {item.name: feeds[item.name] for item in opened.get_inputs()})
        return dict(zip(names, answers, strict=True))

    return run


@dataclass(frozen=True)
class Small:
    """A model taken apart, and its parts as functions."""

    cut: Cut

    @cached_property
    def whole(self) -> Callable[[Feeds], dict[str, Array]]:
        """The lowered model in one piece."""
        return session(filled(self.cut, self.cut.whole))

    @cached_property
    def embedding(self) -> Callable[[Feeds], dict[str, Array]]:
        """The embedding model."""
        return session(filled(self.cut, self.cut.embedding))

    @cached_property
    def dense(self) -> Callable[[Feeds], dict[str, Array]]:
        """The dense model."""
        return session(self.cut.dense)

    @cached_property
    def engine(self) -> Callable[[Feeds], dict[str, Array]] | None:
        """The embedding model as the engine does it; None where it can't, or there is no compiler."""
        return by_engine(self.cut) if unavailable() is None and comparable(self.cut) else None

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """The parts joined as the ensemble joins them; marks are among the answers. What the engine gives must be the same."""
        crossing = self.embedding(feeds)
        if self.engine is not None:
            same(self.engine(feeds), crossing)
        marks = {name: data for name, data in crossing.items() if name == UNKNOWN_IDS}
        return {**self.dense({**feeds, **crossing}), **marks}

    def operators(self, side: str) -> list[str]:
        """The operators of one side, in order."""
        return [node.op_type for node in getattr(self.cut, side).graph]

    def reason(self) -> str:
        """Why candidates aren't lookups, one after the other."""
        return "\n".join(candidate.reason for candidate in self.cut.candidates if candidate.reason)


def source_of(text: str, arrays: Feeds, *, opset: int = 17) -> Callable[[Feeds], dict[str, Array]]:
    """The model of `text` as it stands, before it is cut."""
    model = proto(text, arrays, opset=opset)
    if "recsplit." not in text:
        return session(model)
    ir_model = loaded(model)
    return lambda feeds: evaluate(ir_model, {value.name or "": feeds[value.name or ""] for value in ir_model.graph.inputs})


def small(text: str, arrays: Feeds, *, opset: int = 17, **settings: Any) -> Small:
    """Cut the model of `text`."""
    return Small(cut(loaded(proto(text, arrays, opset=opset)), **settings))


def feeds_for(text: str, limits: Mapping[str, int], *, batch: int = 5, length: int = 4, seed: int = 0) -> dict[str, Array]:
    """Random inputs for the signature of `text`: ids below their limits, else normal numbers; letters are dynamic sizes."""
    random = np.random.default_rng(seed)
    feeds = {}
    for kind, dims, name in re.findall(r"(\w+)\[([^\]]*)\]\s*(\w+)", text.partition("=>")[0]):
        dtype = np.dtype({"float": "float32", "double": "float64"}.get(kind, kind))
        sizes = [item.strip() for item in dims.split(",")]
        shape = [batch, *(int(size) if size.isdecimal() else length for size in sizes[1:])]
        if name in limits:
            feeds[name] = random.integers(0, limits[name], shape).astype(dtype)
        elif dtype.kind == "f":
            feeds[name] = random.standard_normal(shape).astype(dtype)
        else:
            feeds[name] = random.integers(0, 2, shape).astype(dtype)
    return feeds


def row(feeds: Feeds, index: int) -> dict[str, Array]:
    """One row of a batch, as a batch of one."""
    return {name: data[index : index + 1] for name, data in feeds.items()}


def agrees(text: str, arrays: Feeds, limits: Mapping[str, int], *, opset: int = 17, length: int = 4, **settings: Any) -> Small:
    """Cut, and demand: source = whole (1e-6), whole = parts bit for bit, no row marked, single rows = the batch."""
    source = source_of(text, arrays, opset=opset)
    parts = small(text, arrays, opset=opset, **settings)
    inputs = {item.name: item.dtype for item in parts.cut.whole.graph.inputs}
    for batch, seed in ((1, 1), (5, 2), (17, 3)):
        feeds = feeds_for(text, limits, batch=batch, length=length + batch % 2, seed=seed)
        sent = {name: data.astype(inputs[name].numpy()) if name in inputs else data for name, data in feeds.items()}  # type: ignore[union-attr]
        want, whole, joined = source(feeds), parts.whole(sent), parts(sent)
        for name, data in want.items():
            np.testing.assert_allclose(whole[name], data, rtol=1e-5, atol=1e-6, err_msg=name)
            np.testing.assert_array_equal(joined[name], whole[name], err_msg=name)
            assert whole[name].dtype == data.dtype
            alone = np.concatenate([parts(row(sent, index))[name] for index in range(batch)])
            np.testing.assert_allclose(alone, data, rtol=1e-5, atol=1e-6, err_msg=f"{name}, row by row")
        if parts.cut.marks:
            assert (joined[UNKNOWN_IDS][:, 0] == -1).all()
    kept = {value.name for value in parts.cut.dense.graph.initializers.values()}
    assert not kept & {item.value.name for item in parts.cut.fused}, "a fused table slipped into the dense model"
    return parts


def tables_in(parts: Small, side: str) -> set[str]:
    """Names of the rank-2 initializers of more than one column on one side."""
    graph = getattr(parts.cut, side).graph
    return {value.name for value in graph.initializers.values() if len(value.shape) == 2 and value.shape[1] > 1}


def filled(cut_model: Cut, model: ir.Model) -> ir.Model:
    """The model with its fused tables in memory, as `build` would write them into the file."""
    for fused in cut_model.fused:
        data = [np.asarray(source.const_value.numpy()) for source in fused.sources if source.const_value is not None]
        whole = np.concatenate([*data, np.array([fused.zeros], dtype=data[0].dtype)])
        model.graph.initializers[fused.value.name or ""].const_value = ir.tensor(whole, name=fused.value.name)
    return model
