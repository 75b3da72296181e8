"""Quantized tables: rows stay INT8 or UINT8 where they lie and where they cross, and an unknown id's vector is zeros."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.plan.plan import UNKNOWN_IDS
from tests.graph.small import Array, agrees, small, source_of, table

ROWS = 50
RANDOM = np.random.default_rng(0)
F32 = np.float32
CONSTANTS: dict[str, Any] = {
    "q": RANDOM.integers(-128, 128, (ROWS, 8)).astype(np.int8),
    "b": RANDOM.integers(0, 256, (ROWS, 8)).astype(np.uint8),
    "s": F32(0.01),
    "z": np.int8(-7),
    "zu": np.uint8(139),
    "sr": RANDOM.random(ROWS).astype(F32),
    "w": table(8, 1),
    "zr": RANDOM.integers(-9, 9, ROWS).astype(np.int8),
    "sc": RANDOM.random(8).astype(F32),
    "zc": RANDOM.integers(0, 256, 8).astype(np.uint8),
    "blocks": RANDOM.random((ROWS, 2)).astype(F32),
    "one": np.array([1]),
    "points": RANDOM.integers(0, 256, (ROWS, 2)).astype(np.uint8),
    "whole": RANDOM.random((ROWS, 1)).astype(F32),
    "last": np.array([-1]),
    "seven": F32(-7),
    "of": RANDOM.integers(0, ROWS, 90).astype(np.uint8),
    "t": table(ROWS, 8),
    "pairs": RANDOM.integers(0, ROWS, (90, 2)).astype(np.int8),
}
BLOCKS = "com.microsoft.GatherBlockQuantized<bits=8,block_size={size},gather_axis=0,quantize_axis=1>"


class Form(NamedTuple):
    """What makes `v`, floats, of `ids` [batch, 3]; the tables that are read, and the tensors that cross."""

    nodes: str
    tables: list[str]
    crossing: list[str]


FORMS = {
    "dequantized behind": Form("r=Gather(q,ids) v=DequantizeLinear(r,s,z)", ["q"], ["embeddings_int8_8"]),
    "UINT8": Form("r=Gather(b,ids) v=DequantizeLinear(r,s,zu)", ["b"], ["embeddings_uint8_8"]),
    "without a zero point": Form("r=Gather(q,ids) v=DequantizeLinear(r,s)", ["q"], ["embeddings_int8_8"]),
    "dequantized before": Form("d=DequantizeLinear(q,s,z) v=Gather(d,ids)", ["q"], ["embeddings_int8_8"]),
    "dequantized before, column by column": Form("d=DequantizeLinear<axis=1>(b,sc,zc) v=Gather(d,ids)", ["b"], ["embeddings_uint8_8"]),
    "dequantized before, row by row": Form(
        "d=DequantizeLinear<axis=0>(q,sr,zr) v=Gather(d,ids)",
        ["q", "sr", "zr"],
        ["embeddings_int8_8", "embeddings_1", "embeddings_int8_1"],
    ),
    "scales by the same ids": Form(
        "r=Gather(q,ids) c=Cast<to=1>(r) g=Gather(sr,ids) g1=Unsqueeze(g,last) v=Mul(c,g1)",
        ["q", "sr"],
        ["embeddings_int8_8", "embeddings_1"],
    ),
    "a constant subtracted": Form("r=Gather(q,ids) c=Cast<to=1>(r) d=Sub(c,seven) v=Mul(d,s)", ["q"], ["embeddings_int8_8"]),
    "blocks as wide as rows": Form(f"v={BLOCKS.format(size=16)}(b,ids,whole)", ["b", "whole"], ["embeddings_uint8_8", "embeddings_1"]),
    "two blocks a row": Form(
        f"v={BLOCKS.format(size=16)}(wide,ids,blocks,points)",
        ["wide", "blocks", "points"],
        ["embeddings_uint8_32", "embeddings_2", "embeddings_uint8_2"],
    ),
}
WIDE = {"wide": RANDOM.integers(0, 256, (ROWS, 32)).astype(np.uint8)}


def text(nodes: str, rest: str = "y=Tanh(v)", *, dim: int = 8) -> str:
    return f"(int64[N,3] ids) => (float[N,3,{dim}] y) {{ {nodes} {rest} }}"


@pytest.mark.parametrize("policy", ["error", "zero", "row=7"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rows_are_read_and_cross_as_they_are_stored(form: Form, policy: str) -> None:
    model = text(form.nodes, dim=32 if "wide" in form.nodes else 8)
    parts = agrees(model, {**CONSTANTS, **WIDE}, {"ids": ROWS}, unknown_ids=policy)
    assert sorted(lookup.table for lookup in parts.cut.lookups) == sorted(form.tables)
    assert sorted(parts.cut.boundary) == sorted(form.crossing)
    assert all((lookup.direct, lookup.columns, lookup.limit) == (True, (0, 3), ROWS) for lookup in parts.cut.lookups)
    if policy == "zero":
        ids = np.array([[1, ROWS, 2], [3, 4, -1]])
        fine = source_of(model, {**CONSTANTS, **WIDE})({"ids": np.clip(ids, 0, ROWS - 1)})["y"]
        answers = parts({"ids": ids})["y"]
        assert not answers[0, 1].any() and not answers[1, 2].any(), "an unknown id's vector isn't zeros"
        np.testing.assert_allclose(answers[[0, 0, 1, 1], [0, 2, 0, 1]], fine[[0, 0, 1, 1], [0, 2, 0, 1]], rtol=1e-6)
    if policy == "error":
        assert (parts({"ids": np.array([[1, 2, ROWS], [1, 2, 3]])})[UNKNOWN_IDS][:, 0] >= 0).tolist() == [True, False]


def test_dequantized_rows_that_are_pooled_cross_pooled() -> None:
    model = "(int64[N,3] ids) => (float[N,8] y) { r=Gather(b,ids) v=DequantizeLinear(r,s,zu) y=ReduceSum<keepdims=0>(v,one) }"
    parts = agrees(model, CONSTANTS, {"ids": ROWS}, unknown_ids="zero")
    assert parts.cut.boundary == ("embeddings_8",)
    assert not parts({"ids": np.full((2, 3), ROWS)})["y"].any()


def test_a_history_of_quantized_rows_is_cut() -> None:
    model = "(int64[N,T] ids) => (float[N,8] y) { r=Gather(b,ids) v=DequantizeLinear(r,s,zu) y=ReduceSum<keepdims=0>(v,one) }"
    agrees(model, CONSTANTS, {"ids": ROWS}, unknown_ids="zero")


def test_tables_of_different_zero_points_do_not_lie_together() -> None:
    model = text("r=Gather(q,ids) v1=DequantizeLinear(r,s,z) h=Gather(q2,ids) v2=DequantizeLinear(h,s) v=Add(v1,v2)")
    parts = agrees(model, {**CONSTANTS, "q2": CONSTANTS["q"] // 2}, {"ids": ROWS}, unknown_ids="zero")
    assert [fused.zeros for fused in parts.cut.fused] == [(-7,) * 8, (0,) * 8]
    assert not parts({"ids": np.full((2, 3), ROWS)})["y"].any()


def test_one_table_with_two_zero_points_has_no_row_of_zeros() -> None:
    model = text("r=Gather(q,ids) v1=DequantizeLinear(r,s,z) h=Gather(q,ids) v2=DequantizeLinear(h,s) v=Add(v1,v2)")
    agrees(model, CONSTANTS, {"ids": ROWS})
    with pytest.raises(InputError, match="several zero points"):
        small(model, CONSTANTS, unknown_ids="zero")


BUFFERS = {
    "of UINT8": "c=Gather(of,ids) i=Cast<to=7>(c)",
    "of two columns of INT8": "c=Gather(pairs,ids) k=Cast<to=7>(c) i=Gather<axis=2>(k,zero)",
}


@pytest.mark.parametrize("nodes", BUFFERS.values(), ids=BUFFERS)
def test_small_integers_that_lead_to_ids_are_a_buffer_and_no_table(nodes: str) -> None:
    model = text(nodes, "v=Gather(t,i) y=Tanh(v)")
    parts = agrees(model, {**CONSTANTS, "zero": np.array(0)}, {"ids": 90})
    assert [lookup.table for lookup in parts.cut.lookups] == ["t"]
    assert (parts({"ids": np.array([[1, 2, 90]])})[UNKNOWN_IDS][:, 0] >= 0).all()


def test_a_table_of_4_bits_is_named_with_its_bytes() -> None:
    nodes = "g=com.microsoft.GatherBlockQuantized<bits=4,block_size=16,gather_axis=0,quantize_axis=1>(wide,ids,blocks) u=Gather(t,ids)"
    constants: dict[str, Array] = {**CONSTANTS, "wide": np.tile(WIDE["wide"][:, :16], (2, 1)), "blocks": table(2 * ROWS, 2)}
    model = text(nodes, "a=ReduceSum<keepdims=1>(g,last) y=Mul(u,a)")
    (candidate,) = [item for item in small(model, constants).cut.candidates if not item.is_lookup]
    assert (candidate.table, candidate.kind) == ("wide", "GatherBlockQuantized") and "in blocks" in candidate.reason
    assert candidate.size_bytes == 2 * ROWS * 16
