"""Valid models that can't be cut, batched or compared: `recsplit build` says why, and changes nothing."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind
from tests.bad_input.models.models import INPUTS, LOGIT, SCORE, from_file, model, saved

NO_TABLE = "the model reads no embedding table"
NO_LOOKUP = "the model has no lookup that can be cut out"
FROM_A_LAYER = "hidden = Relu(dense) sum = ReduceSum<keepdims = 0>(hidden, one) ids = Cast<to = 7>(sum) score = Gather(users, ids)"
NUMBERS_AS_TABLE = saved(
    "whole = Gather(users, user) score = Cast<to = 1>(whole)", inputs="int64[batch] user", users=np.ones((9, 1), np.int32)
)
LOOPED = """
count = Shape(user) zero = Constant<value_int = 0>() many = Gather(count, zero) yes = Constant<value = bool {1}>()
rows = Loop(many, yes) <body = turn (int64 i, bool go) => (bool goes, float[8] row) {
  goes = Identity(go) id = Gather(user, i) found = Gather(users, id) row = Sin(found)
}>
more = ReduceSum(rows, one) score = Add(logit, more)
"""
BRANCH = """
score = If(yes) <then_branch = one_way () => (float[batch, 1] there) { there = Sigmoid(logit) },
                 else_branch = another () => (float[batch, 1] here) { here = Tanh(logit) }>
"""


def bfloat16(path: Path) -> None:
    proto = model("rows = Gather(users, user) score = Cast<to = 1>(rows)", outputs="float[batch, 8] score")
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("users", TensorProto.BFLOAT16, [9, 8], [1.0] * 72))
    path.write_bytes(proto.SerializeToString())


KINDS = [
    from_file(
        "no table", saved("short = Slice(dense, zero, one, one) score = Sigmoid(short)", zero=np.array([0])), NO_TABLE, "[rows, dim]"
    ),
    from_file("table of whole numbers", NUMBERS_AS_TABLE, NO_TABLE, "a FLOAT, DOUBLE or FLOAT16 tensor [rows, dim]"),
    from_file("table of bfloat16", bfloat16, f"{NO_LOOKUP}\n    Gather 'node' on 'users': its table is of BFLOAT16", "recsplit inspect"),
    from_file("ids are constant", saved("rows = Gather(users, fixed) score = MatMul(dense, rows)"), NO_TABLE, "that ids read"),
    from_file("ids come out of a layer", saved(FROM_A_LAYER), f"{NO_LOOKUP}\n    Gather 'node_3' on 'users'", "recsplit inspect"),
    from_file("a loop is left", saved(LOGIT + LOOPED), "the model still has Loop", "build from the .pt2 or the factory"),
    from_file(
        "a branch is left",
        saved(LOGIT + BRANCH, inputs=f"{INPUTS}, bool[batch] yes"),
        "the model still has If",
        "build from the .pt2 or the factory",
    ),
    from_file("table without rows", saved(users=np.ones((0, 8), np.float32)), "table 'users' is empty: 0 rows x 8", "its trained tables"),
    from_file(
        "table without columns",
        saved(users=np.ones((9, 0), np.float32), w=np.ones((12, 1), np.float32)),
        "table 'users' is empty: 9 rows x 0",
        "its trained tables",
    ),
    from_file(
        "fixed batch", saved(inputs=INPUTS.replace("batch", "16")), "input 'dense' is fixed at 16", "dynamic_axes={'dense': {0: 'batch'}}"
    ),
    from_file(
        "batch as a number inside",
        saved(LOGIT + "flat = Reshape(logit, sizes) score = Sigmoid(flat)", sizes=np.array([16, 1])),
        "does not run at another batch size than the exported one",
        "avoid Python numbers taken from shapes",
        code=1,
    ),
    from_file(
        "input without batch",
        saved(LOGIT + "scaled = Mul(logit, scale) score = Sigmoid(scaled)", inputs=f"{INPUTS}, float scale"),
        "input 'scale' has no batch dimension",
        "inputs of shape [batch, ...]",
    ),
    from_file(
        "output without batch",
        saved(LOGIT + "score = ReduceMean<keepdims = 0>(logit)", outputs="float score"),
        "output 'score' has no batch dimension: its shape is [] whatever the batch",
        "the first dimension of every output",
    ),
    from_file(
        "output of one row",
        saved(LOGIT + "score = ReduceMean<axes = [0]>(logit)", outputs="float[1, 1] score"),
        "output 'score' has no batch dimension: its shape is [1, 1] whatever the batch",
        "the first dimension of every output",
    ),
    from_file(
        "rows that see their neighbours",
        saved(LOGIT + "score = Softmax<axis = 0>(logit)"),
        "a row's answer depends on the other rows of its batch",
        "softmax or a mean along dimension 0",
    ),
    from_file(
        "random answers",
        saved(LOGIT + "noise = RandomNormalLike(logit) score = Add(logit, noise)"),
        "the source answers differently when it is asked again: output 'score' by",
        "what draws random numbers",
    ),
    from_file("answers NaN", saved(users=np.full((100, 8), np.nan, np.float32)), "NaN or infinity in output 'score'", "trained weights"),
    from_file(
        "answers infinity",
        saved(LOGIT + "score = Identity(logit)", b=np.full(1, np.inf, np.float32)),
        "the source answers NaN or infinity in output 'score' (case 'one row')",
        "are the trained weights loaded?",
    ),
    from_file(
        "input named as ours",
        saved(LOGIT.replace("user)", "unknown_ids)") + SCORE, inputs=INPUTS.replace("user", "unknown_ids")),
        "the model has an input or output 'unknown_ids'",
        "rename it",
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_model_that_can_not_be_cut_is_refused(kind: Kind, refused: Refused) -> None:
    refused(kind)
