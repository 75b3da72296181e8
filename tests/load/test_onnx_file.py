""".onnx files: normalized without touching large tensors, run by onnxruntime, and refused by name where broken."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from recsplit.errors import InputError, RecsplitError
from recsplit.load import load
from tests.graph.small import proto, table
from tests.load.agreement import compare, names, ops

TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)
Write = Callable[..., Path]


def tensor(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def value(name: str, kind: int, *dims: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(dims))


IDS = value("ids", TensorProto.INT64, "batch", 3)
OUT = value("out", TensorProto.FLOAT, "batch", 3, 2)
LOOKUP = helper.make_node("Gather", ["table", "ids"], ["out"])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model of these nodes; the default is one lookup."""

    def make(
        nodes: Sequence[onnx.NodeProto] = (LOOKUP,),
        inputs: Sequence[onnx.ValueInfoProto] = (IDS,),
        outputs: Sequence[onnx.ValueInfoProto] = (OUT,),
        initializers: Sequence[TensorProto] = (tensor("table", TABLE),),
        *,
        opset: int = 17,
        functions: Sequence[onnx.FunctionProto] = (),
        external: bool = False,
    ) -> Path:
        graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
        model = helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)
        path = tmp_path / "model.onnx"
        onnx.save(model, path, save_as_external_data=external, location="model.data", size_threshold=0)
        return path

    return make


def ids(batch: int) -> dict[str, Any]:
    return {"ids": np.random.default_rng(batch).integers(0, 10, (batch, 3))}


def test_constants_identities_and_dropout_disappear(write: Write) -> None:
    nodes = [
        helper.make_node("Constant", [], ["constant"], value=tensor("", TABLE)),
        helper.make_node("Identity", ["constant"], ["table"]),
        helper.make_node("Identity", ["ids"], ["same"]),
        helper.make_node("Gather", ["table", "same"], ["rows"]),
        helper.make_node("Dropout", ["rows"], ["kept", "mask"]),
        helper.make_node("Transpose", ["kept"], ["unmoved"], perm=[0, 1, 2]),
        helper.make_node("Relu", ["unmoved"], ["unused"]),
        helper.make_node("Identity", ["unmoved"], ["out"]),
    ]
    loaded = load(str(write(nodes, initializers=[])))
    assert ops(loaded) == ["Gather"]
    assert names(loaded.model.graph.outputs) == ["out"]
    compare(loaded, ids(1), ids(4))


def test_functions_are_inlined(write: Write) -> None:
    body = [helper.make_node("Gather", ["data", "at"], ["got"])]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "Lookup", ["data", "at"], ["got"], body, imports)
    loaded = load(str(write([helper.make_node("Lookup", ["table", "ids"], ["out"], domain="local")], functions=[function])))
    assert ops(loaded) == ["Gather"]
    compare(loaded, ids(2))


def test_initializers_listed_as_inputs_are_not_inputs(write: Write) -> None:
    loaded = load(str(write(inputs=[IDS, value("table", TensorProto.FLOAT, 10, 2)])))
    assert names(loaded.model.graph.inputs) == ["ids"]
    compare(loaded, ids(2))


def test_outputs_keep_their_names_when_two_are_one_value(write: Write) -> None:
    nodes = [LOOKUP, helper.make_node("Identity", ["out"], ["again"]), helper.make_node("Identity", ["ids"], ["echo"])]
    outputs = [OUT, value("again", TensorProto.FLOAT, "batch", 3, 2), value("echo", TensorProto.INT64, "batch", 3)]
    loaded = load(str(write(nodes, outputs=outputs)))
    assert names(loaded.model.graph.outputs) == ["out", "again", "echo"]
    compare(loaded, ids(2))


def test_known_sizes_are_folded(write: Write) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Shape", ["rows"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["length"]),
        helper.make_node("Mul", ["length", "two"], ["width"]),
        helper.make_node("Unsqueeze", ["width", "zeros"], ["widths"]),
        helper.make_node("Concat", ["minus", "widths"], ["target"], axis=0),
        helper.make_node("Reshape", ["rows", "target"], ["out"]),
    ]
    numbers = {"one": 1, "two": 2, "zeros": [0], "minus": [-1]}
    initializers = [tensor("table", TABLE), *(tensor(name, np.array(number, dtype=np.int64)) for name, number in numbers.items())]
    loaded = load(str(write(nodes, outputs=[value("out", TensorProto.FLOAT, "batch", 6)], initializers=initializers)))
    assert ops(loaded) == ["Gather", "Reshape"]
    compare(loaded, ids(3))


def test_gathernd_by_one_index_is_gather(write: Write) -> None:
    nodes = [helper.make_node("GatherND", ["table", "at"], ["out"])]
    inputs = [value("at", TensorProto.INT64, "batch", 3, 1)]
    loaded = load(str(write(nodes, inputs=inputs)))
    assert ops(loaded) == ["Squeeze", "Gather"]
    compare(loaded, {"at": np.array([[[1], [9], [0]]])})


def test_facebooks_offsets_may_have_their_batch_second(write: Write) -> None:
    nodes = [LOOKUP, helper.make_node("Transpose", ["offsets"], ["o"])]
    inputs = [IDS, value("offsets", TensorProto.INT64, 3, "batch")]
    loaded = load(str(write(nodes, inputs=inputs, outputs=[OUT, value("o", TensorProto.INT64, "batch", 3)])))
    compare(loaded, {**ids(2), "offsets": np.zeros((3, 2), dtype=np.int64)})


def test_external_tables_are_pointed_at_not_read(write: Write) -> None:
    path = write(external=True)
    loaded = load(str(path))
    table = loaded.model.graph.initializers["table"].const_value
    assert isinstance(table, ir.ExternalTensor)
    assert table.raw is None
    assert Path(table.path) == path.with_name("model.data")
    compare(loaded, ids(2))


def test_a_source_is_named_and_its_errors_are_told(write: Write) -> None:
    path = write()
    loaded = load(str(path))
    assert (loaded.source.kind, loaded.source.spec, loaded.example) == ("onnx", str(path), None)
    with pytest.raises(RecsplitError, match="onnxruntime can't run") as caught:
        loaded.run({"ids": np.array([[11, 0, 0]])})
    assert "out of data bounds" in caught.value.detail


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"opset": 12}, "uses ONNX opset 12, and recsplit needs 13 or newer"),
        ({"inputs": [], "initializers": [tensor("table", TABLE), tensor("ids", np.zeros((1, 3), dtype=np.int64))]}, "has no inputs"),
        ({"inputs": [value("ids", TensorProto.INT64, 4, 3)]}, "batch dimension of input 'ids' is fixed at 4"),
        ({"inputs": [value("ids", TensorProto.INT64)]}, "input 'ids' has no batch dimension"),
        ({"initializers": []}, "is not a valid ONNX model"),
        ({"nodes": [helper.make_node("Gather", ["table", "other"], ["out"])]}, "is not a valid ONNX model"),
        ({"nodes": [helper.make_node("NoSuchOperator", ["ids"], ["out"])]}, "is not a valid ONNX model"),
    ],
)
def test_a_model_that_cant_be_used_is_refused(settings: dict[str, Any], words: str, write: Write) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(str(write(**settings)))
    assert caught.value.hint


def test_broken_files_are_refused(tmp_path: Path, write: Write) -> None:
    whole = write().read_bytes()
    for contents in (b"", b"not a model", whole[: len(whole) // 2], b"\x00" * 100):
        path = tmp_path / "broken.onnx"
        path.write_bytes(contents)
        with pytest.raises(InputError, match=r"broken.onnx (is not a valid ONNX model|uses ONNX opset None)") as caught:
            load(str(path))
        assert caught.value.hint
    with pytest.raises(InputError, match=r"absent.onnx is not a file"):
        load(str(tmp_path / "absent.onnx"))


def test_external_data_that_is_missing_short_or_elsewhere_is_refused(write: Write) -> None:
    path = write(external=True)
    data = path.with_name("model.data")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"has 79 bytes, and tensor 'table' ends at byte 80"):
        load(str(path))
    data.unlink()
    with pytest.raises(InputError, match=r"keeps tensor 'table' in model.data, and that file is missing"):
        load(str(path))
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../model.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"in ../model.data, outside its own folder"):
        load(str(path))


@pytest.mark.filterwarnings("ignore")  # the legacy exporter's own
def test_files_of_both_exporters_load_with_their_loops(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tests.load.models import DIM, ROWS, make

    module = make(lambda self, values, offsets: self.e(values, offsets), e=torch.nn.EmbeddingBag(ROWS, DIM, mode="sum")).eval()
    inputs = (torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 2, 2]))
    auto = torch.export.Dim.AUTO
    torch.onnx.export(module, inputs, tmp_path / "new.onnx", dynamo=True, dynamic_shapes=({0: auto}, {0: auto}), verbose=False)
    axes = {"values": {0: "n"}, "offsets": {0: "batch"}}
    names_of = {"input_names": ["values", "offsets"], "dynamic_axes": axes, "opset_version": 17}
    torch.onnx.export(module, inputs, tmp_path / "old.onnx", dynamo=False, **names_of)
    for name in ("new", "old"):
        loaded = load(str(tmp_path / f"{name}.onnx"))
        assert "Loop" in ops(loaded)
        case = {"values": np.arange(7), "offsets": np.array([0, 0, 3, 7])}
        (answer,) = loaded.run(case).values()
        np.testing.assert_allclose(answer.astype(np.float64), module(*map(torch.tensor, case.values())).detach().numpy(), rtol=1e-5)


def test_a_file_with_int64_operators_that_onnxruntime_computes_wrongly_is_run_as_onnx_means_it(tmp_path: Path) -> None:
    """onnxruntime 1.31 clips 2**31 + 5 to 0: such a source would make right parts wrong."""
    arrays = {"t": table(31, 8), "zero": np.array(0), "last": np.array(30)}
    proto_model = proto("(int64[N] ids) => (float[N,8] y) { i = Clip(ids, zero, last) y = Gather(t, i) }", arrays)
    path = tmp_path / "clip.onnx"
    onnx.save(proto_model, path, save_as_external_data=True, size_threshold=0, location="clip.bin")
    ids = np.array([2**31, 2**31 + 5, 3 * 10**9, -5, 7])
    np.testing.assert_array_equal(load(str(path)).run({"ids": ids})["y"], arrays["t"][ids.clip(0, 30)])
