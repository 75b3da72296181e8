"""Files that are no ONNX model, or a broken one: `recsplit build` says what is wrong, and changes nothing."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind, nothing
from tests.bad_input.models.models import INPUTS, LOGIT, SCORE, Make, from_file, model, saved, write_external

GOOD = model().SerializeToString()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
ACME = '"": 17, "com.acme": 1'


def external(keep: float | None) -> Make:
    """A model whose external data is cut short, or missing where `keep` is None."""

    def make(path: Path) -> None:
        write_external(path)
        data = path.with_name("shop.data")
        whole = data.read_bytes()
        if keep is None:
            data.unlink()
        else:
            data.write_bytes(whole[: int(keep * len(whole))])

    return make


def external_elsewhere(path: Path) -> None:
    write_external(path)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = "../shop.data"
    path.write_bytes(proto.SerializeToString())


def too_few_bytes(path: Path) -> None:
    proto = model()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    path.write_bytes(proto.SerializeToString())


def sparse(path: Path) -> None:
    proto = model()
    place = [tensor.name for tensor in proto.graph.initializer].index("users")
    del proto.graph.initializer[place]
    values = numpy_helper.from_array(np.ones(1, np.float32), "users")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([[7, 1]])), [100, 8]))
    path.write_bytes(proto.SerializeToString())


NOT_ONNX = "bad.onnx is not a valid ONNX model"
KINDS = [
    from_file("missing", nothing, "bad.onnx is not a file", "check the path"),
    from_file("a folder", Path.mkdir, "bad.onnx is not a file", "check the path"),
    from_file("empty", b"", f"{NOT_ONNX}: its graph is empty", "copy it again"),
    from_file("cut short", GOOD[: len(GOOD) // 2], NOT_ONNX, "copy it again"),
    from_file("random bytes", np.random.default_rng(0).bytes(5000), NOT_ONNX, "copy it again"),
    from_file("text", b"import torch\n", NOT_ONNX, "copy it again"),
    from_file("git-lfs pointer", POINTER, "bad.onnx is a git-lfs pointer", "git lfs pull"),
    from_file("a tensor, not a model", model().graph.initializer[0].SerializeToString(), NOT_ONNX, "copy it again"),
    from_file("too few bytes in a tensor", too_few_bytes, f"{NOT_ONNX}: TensorProto (tensor name: users) raw_data size", "export it again"),
    from_file(
        "external data missing", external(None), "keeps tensor 'users' in shop.data, and that file is missing", "put it at shop.data"
    ),
    from_file("external data empty", external(0), "shop.data has 0 bytes, and tensor 'users' ends at byte 3200", "copy it again"),
    from_file("external data cut short", external(0.5), "bytes, and tensor 'users' ends at byte 3200", "copy it again"),
    from_file("external data elsewhere", external_elsewhere, "in ../shop.data, outside its own folder", "into one folder"),
    from_file("old opset", saved(opsets='"": 9'), "uses ONNX opset 9, and recsplit needs 13 or newer", "opset_version=17"),
    from_file("opset of the future", saved(opsets='"": 99'), "uses ONNX opset 99, and the newest that onnx", "opset_version=17"),
    from_file("unknown operator", saved(LOGIT + "score = Guess(logit)"), "No Op registered for Guess", "onnx.checker.check_model"),
    from_file(
        "operator of another runtime",
        saved(LOGIT + "score = com.acme.Guess(logit)", opsets=ACME),
        "onnxruntime can't load the graph: Fatal error: com.acme:Guess(-1) is not a registered function/op",
        "is every operator one that onnxruntime",
        code=1,
    ),
    from_file("value that nothing makes", saved(LOGIT + "score = Sigmoid(ghost)"), "however input 'ghost' of node", "export it again"),
    from_file(
        "weights of another shape",
        saved(w=np.ones((7, 1), dtype=np.float32)),
        "Op (Gemm) [ShapeInferenceError] Dimension mismatch in unification between 7 and 20",
        "do the weights' shapes fit?",
        code=1,
    ),
    from_file("sparse weights", sparse, "bad.onnx reads 'users', which is no input, no dense weight", "store weights as dense tensors"),
    from_file("no inputs", saved("score = Gather(users, fixed)", inputs=""), "bad.onnx has no inputs", "at least the ids"),
    from_file("no outputs", saved(outputs=""), "bad.onnx has no outputs", "what it answers"),
    from_file("text as input", saved(inputs=f"{INPUTS}, string[batch] city"), "input 'city' is STRING", "map text to numbers"),
    from_file(
        "text as output",
        saved(LOGIT + SCORE + "word = Cast<to = 8>(score)", outputs="string[batch, 1] word"),
        "output 'word' is STRING",
        "map text to numbers",
    ),
    from_file(
        "sequence as input", saved(inputs=f"{INPUTS}, seq(float[batch]) history"), "input 'history' is a Sequence", "with tensors as inputs"
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_broken_model_file_is_refused(kind: Kind, refused: Refused) -> None:
    refused(kind)
