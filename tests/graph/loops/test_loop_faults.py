"""What stays a Loop and why, and exporters' faults: told by name, and never of a model that is sound."""

import copy
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from recsplit.graph.loops import Collapsed, Fault, collapse_loops, faults
from recsplit.load.normalize import normalize
from recsplit.zoo import deepctr
from tests.graph.exports import DIM, EXPORTERS, RAGGED, RECTANGLES, ROWS, Answer, bag, bags_of_every_mode, dynamo, legacy
from tests.graph.small import proto
from tests.load.reference import evaluate

DENSE = torch.rand(5, DIM)
PLACES = torch.tensor([0, 2, 2, 3, 3])


def _twice(dense: Tensor, scattered: Tensor) -> Tensor:
    return dense + scattered + scattered.relu()


def reasons(model: ir.Model) -> list[str]:
    """Why each Loop stays; all do."""
    records = collapse_loops(model)
    assert not any(record.rewritten for record in records)
    return [record.reason for record in records]


def only_fault(model: ir.Model) -> Fault:
    """The one fault, the same after loading and after collapsing."""
    (fault,) = faults(model)
    normalize(model, origin="test")
    collapse_loops(model)
    assert [later_fault.node for later_fault in faults(model)] == [fault.node]
    assert fault.hint
    return fault


def test_the_old_exporter_bakes_the_sizes_of_torchrecs_ragged_inputs() -> None:
    torchrec = pytest.importorskip("torchrec")
    tables = [torchrec.EmbeddingBagConfig(name=name, embedding_dim=DIM, num_embeddings=ROWS, feature_names=[name]) for name in "ab"]
    module = Answer(
        lambda bags, values, lengths, weights: bags[0](
            torchrec.KeyedJaggedTensor(keys=["a", "b"], values=values, lengths=lengths, weights=weights)
        ).values(),
        torchrec.EmbeddingBagCollection(tables=tables, is_weighted=True),
    )
    model = legacy(module, (torch.randint(0, ROWS, (7,)), torch.tensor([2, 1, 3, 1]), torch.rand(7)))
    ids, weights = faults(model)
    assert "cuts 'x0', whose length varies, into the pieces of the example, [3, 4]" in ids.what
    assert "cuts 'x2'" in weights.what
    assert "dynamo=True" in ids.hint


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize(
    "add",
    [
        lambda rows, places, dense: torch.zeros_like(dense).index_add(0, places, rows),
        lambda rows, places, dense: torch.zeros(dense.shape[0], DIM).index_add(0, places, rows) + dense,
        lambda rows, places, dense: torch.zeros_like(dense).index_put((places,), rows, accumulate=True),
        lambda rows, places, dense: torch.ones(9, DIM).index_add(0, places, rows).sum(0) + dense,
    ],
    ids=["index_add", "into zeros of a computed size", "index_put", "into a constant"],
)
def test_the_old_exporter_loses_rows_of_an_index_add(add: Any, opset: int) -> None:
    module = Answer(lambda bags, ids, places, dense: add(bags[0](ids), places, dense), nn.Embedding(ROWS, DIM))
    fault = only_fault(legacy(module, (RAGGED[1][0], PLACES, DENSE), opset=opset))
    assert "has no reduction: of rows with the same index all but one are lost" in fault.what


def test_the_new_exporter_makes_sums_that_race() -> None:
    module = Answer(lambda bags, ids, places, dense: torch.zeros_like(dense).index_add(0, places, bags[0](ids)), nn.Embedding(ROWS, DIM))
    fault = only_fault(dynamo(module, (RAGGED[1][0], PLACES, DENSE)))
    assert "loses updates where two threads add to the same row" in fault.what
    assert "nn.EmbeddingBag" in fault.hint


@pytest.mark.parametrize(
    "sound",
    [
        lambda rows, places, dense: torch.zeros_like(dense).scatter_add(0, places[:, None].expand(-1, DIM), rows),
        lambda rows, places, dense: dense.scatter(0, places[:, None].expand(-1, DIM), rows),
        lambda rows, places, dense: dense + torch.zeros(5, DIM).scatter(1, places[:, None], 1.0),
        lambda rows, places, dense: _twice(dense, torch.zeros_like(dense).scatter(0, places[:, None].expand(-1, DIM), rows)),
        lambda rows, places, dense: dense.index_copy(0, places, rows),
        lambda rows, places, dense: dense.index_add(1, torch.tensor([0, 3]), rows[: dense.shape[0], :2]),
        lambda rows, places, dense: (
            torch.cat(torch.split(dense + rows[: dense.shape[0]], [1, 3], dim=1)[::-1], 1) + dense.chunk(2, -1)[0].sum()
        ),
    ],
    ids=["scatter_add", "scatter", "one-hot", "scattered and used twice", "index_copy", "distinct columns", "split of features"],
)
def test_what_only_looks_like_a_fault(sound: Any) -> None:
    module = Answer(lambda bags, ids, places, dense: sound(bags[0](ids), places, dense), nn.Embedding(ROWS, DIM))
    assert faults(legacy(module, (RAGGED[1][0], PLACES, DENSE))) == ()


@pytest.mark.parametrize("factory", [deepctr.deepfm, deepctr.dcn, deepctr.din])
def test_ordinary_models_have_no_faults(factory: Any) -> None:
    module, inputs, *_ = factory()
    model = legacy(module, tuple(inputs.values()) if isinstance(inputs, dict) else tuple(inputs))
    assert faults(model) == ()
    assert collapse_loops(model) == ()


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_constant_offsets_are_those_of_the_example(exporter: str) -> None:
    class Constant(nn.Module):
        offsets: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.bag = bag("max")
            self.register_buffer("offsets", torch.tensor([0, 2, 2, 3, 5]))

        def forward(self, ids: Tensor) -> Tensor:
            pooled: Tensor = self.bag(ids, self.offsets)
            return pooled

    model = EXPORTERS[exporter](Constant(), (RAGGED[1][0],))
    assert reasons(model) == ["its offsets are constants, [0, 2, 2, 3, ...]"]
    fault = only_fault(model)
    assert "pools bags, and its offsets are constants, [0, 2, 2, 3, ...]" in fault.what


def test_a_batch_of_one_that_was_not_dynamic_is_written_into_the_offsets() -> None:
    model = legacy(bag(), RECTANGLES[1:2], axes={})
    assert reasons(model) == ["its offsets are constants, [0]"]
    assert len(faults(model)) == 1


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_batch_that_was_not_dynamic_is_written_into_the_offsets(exporter: str) -> None:
    model = legacy(bag(), RECTANGLES[:1], axes={}) if exporter == "legacy" else dynamo(bag(), RECTANGLES[:1], shapes=None)
    assert reasons(model) == ["its offsets are constants, [0, 3, 6, 9, ...]"]
    assert "[0, 3, 6, 9, ...]" in faults(model)[0].what


@pytest.mark.parametrize(("mode", "written"), [("sum", "3 bags"), ("mean", "7 ids"), ("max", "7 ids")])
def test_a_number_of_bags_or_ids_written_into_a_loop(mode: str, written: str) -> None:
    """The new exporter folds sizes that it takes for fixed; the inputs were declared to vary afterwards."""
    model = dynamo(bag(mode), RAGGED[0], shapes=None)
    for number, value in enumerate(model.graph.inputs):
        value.shape = ir.Shape([f"any{number}"])
    (reason,) = reasons(model)
    assert reason == f"it has the example's {written} written into it"
    assert reason in only_fault(model).what


def test_a_table_that_the_graph_computes() -> None:
    """max_norm, which the new exporter takes seriously, rewrites the table in every request."""
    model = dynamo(bag("sum", max_norm=1.0), RAGGED[0])
    assert reasons(model) == ["its table 'embedding_renorm' isn't an initializer"]


def test_loops_that_are_no_bags() -> None:
    text = """(float[n, 4] x, int64 turns) => (float[n, 4] last, float[m, n, 4] all)
    {
        last, other, all = Loop (turns, yes, x, x) <body = turn (int64 i, bool go, float[n, 4] a, float[n, 4] b)
            => (bool more, float[n, 4] a1, float[n, 4] b1, float[n, 4] each)
            { more = Identity (go)  a1 = Add (a, b)  b1 = Mul (a, b)  each = Identity (a1) }>
    }"""
    model = ir.from_proto(proto(text, {"yes": np.array(True)}))
    assert collapse_loops(model) == (Collapsed(model.graph[0].name or "last", False, "it carries 2 loop values and collects 1"),)
    assert faults(model) == ()
    text = """(float[n, 4] x, int64 turns) => (float[m, 4] all)
    {
        all = Loop (turns, yes) <body = turn (int64 i, bool go) => (bool more, float[4] each)
            { more = Identity (yes)  row = Gather (x, i)  each = Relu (row) }>
    }"""
    model = ir.from_proto(proto(text, {"yes": np.array(True)}))
    assert reasons(model) == ["what it collects is made by Relu, not pooled by sum, mean or max"]


def test_a_bag_in_a_branch_stays_there() -> None:
    model = copy.deepcopy(bags_of_every_mode("legacy")[0])
    graph = model.graph
    branch = onnx.helper.make_graph(graph.node, "branch", [], graph.output)
    chosen = [f"{value.name}_chosen" for value in graph.output]
    choice = onnx.helper.make_node("If", ["go"], chosen, then_branch=branch, else_branch=branch)
    del graph.node[:]
    graph.node.append(choice)
    graph.input.append(onnx.helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []))
    for value, name in zip(graph.output, chosen, strict=True):
        value.name = name
    assert reasons(ir.from_proto(model)) == ["it is in a branch of an If, and lookups are cut out of the main graph only"] * 6


def edited(model: onnx.ModelProto, op: str, edit: Any, *, which: int = 0) -> ir.Model:
    """The model with one node of its first Loop's body changed."""
    model = copy.deepcopy(model)
    loop = next(node for node in model.graph.node if node.op_type == "Loop")
    edit([node for node in loop.attribute[0].g.node if node.op_type == op][which])
    return ir.from_proto(model)


def test_a_body_that_almost_is_a_bag_stays() -> None:
    """The old exporter's Loop, with one thing in its body changed."""
    model, _ = bags_of_every_mode("legacy")
    cases: tuple[tuple[str, Any, int, str], ...] = (
        (
            "ReduceSum",
            lambda node: setattr(node, "op_type", "ReduceProd"),
            0,
            "what it collects is made by ReduceProd, not pooled by sum, mean or max",
        ),
        ("ReduceSum", lambda node: node.attribute.pop(), 0, ""),
        ("Slice", lambda node: node.input.__setitem__(1, node.input[2]), 0, "where its bags begin and end isn't told by offsets"),
        ("Gather", lambda node: node.input.__setitem__(0, "x1"), 1, "where its bags begin and end isn't told by offsets"),
        ("Gather", lambda node: setattr(node.attribute[0], "i", 1), 2, "its rows go through Gather before they are pooled"),
        ("Gather", lambda node: node.input.__setitem__(0, "x0"), 2, "its table 'x0' isn't an initializer"),
    )
    for op, edit, which, reason in cases:
        record = collapse_loops(edited(model, op, edit, which=which))[0]
        assert (record.rewritten, record.reason) == (not reason, reason)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_changed_constant_is_refused_or_changes_nothing(exporter: str) -> None:
    """Every small integer in the file, one at a time, plus and minus one: what is rewritten still answers as onnxruntime does."""
    original, _ = bags_of_every_mode(exporter)
    ids, offsets = RAGGED[0]
    feeds = {"x0": ids.numpy(), "x1": offsets.numpy()}
    tried = 0
    for path, size in _constants(original.graph, ()):
        for step in (1, -1) if size <= 2 else ():
            changed = copy.deepcopy(original)
            tensor = _at(changed.graph, path)
            array = onnx.numpy_helper.to_array(tensor)
            if array.dtype != np.int64:
                continue
            tensor.CopyFrom(onnx.numpy_helper.from_array(array + step, tensor.name))
            tried += 1
            model = ir.from_proto(changed)
            if not all(record.rewritten for record in collapse_loops(model)):
                continue  # among them those that never end
            reference = _run(changed, feeds)
            if reference is None:
                continue
            for answer, array in zip(evaluate(model, feeds).values(), reference, strict=True):
                np.testing.assert_allclose(answer.astype(np.float32), array, rtol=1e-5, atol=1e-5, err_msg=str(path))
    assert tried > 8


def _constants(graph: onnx.GraphProto, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], int]]:
    """Where the constants are, in bodies too, and how many elements they have."""
    constants = [((*path, ("initializer", number)), int(np.prod(tensor.dims))) for number, tensor in enumerate(graph.initializer)]
    for number, node in enumerate(graph.node):
        for position, attribute in enumerate(node.attribute):
            here = (*path, ("node", number), ("attribute", position))
            if attribute.type == onnx.AttributeProto.TENSOR:
                constants.append(((*here, "t"), int(np.prod(attribute.t.dims))))
            elif attribute.type == onnx.AttributeProto.GRAPH:
                constants.extend(_constants(attribute.g, (*here, "g")))
    return constants


def _at(graph: onnx.GraphProto, path: tuple[Any, ...]) -> onnx.TensorProto:
    descendant: Any = graph
    for step in path:
        descendant = getattr(descendant, step) if isinstance(step, str) else getattr(descendant, step[0])[step[1]]
    assert isinstance(descendant, onnx.TensorProto)
    return descendant


def _run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any] | None:
    """onnxruntime's answer, None where it has none."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return list(ort.InferenceSession(model.SerializeToString(), options).run(None, feeds))
    except Exception:
        return None
