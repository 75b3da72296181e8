"""Tables that can't be stored in fewer bits: asked for by name they are an error, else they stay, and why is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recsplit
from recsplit.errors import InputError
from tests.build.onnx_models import built
from tests.build.rounded_models import ARRAYS, TEXT, dlrm, parts_of
from tests.graph.small import table


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        (("int3",), "--table-dtype 'int3' is none"),
        (("=int8",), "--table-dtype '=int8' is none"),
        (("shoes=int8",), "names 'shoes', and no table is called so"),
    ],
)
def test_wishes_that_mean_nothing_are_refused(dtypes: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        dlrm(tmp_path, table_dtype=dtypes)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_tables_that_cant_be_rounded_are_told(bad: float, tmp_path: Path) -> None:
    arrays = {**ARRAYS, "a": ARRAYS["a"].copy()}
    arrays["a"][49, 6] = -bad
    why = "a number is infinite, NaN or beyond what FP16 reaches"
    with pytest.raises(InputError, match=f"table 'a' can't be stored as INT8: {why}"):
        built(tmp_path, TEXT, arrays, table_dtype=("a=int8",))
    if bad == 1e6:  # of all tables the others are stored so
        build = built(tmp_path, TEXT, arrays, table_dtype=("int8",))
        assert {item.name: item.stored for item in build.plan.tables} == {"a": "FP32", "b": "INT8", "c": "INT8"}
        assert f"Note: table 'a' stays FP32: {why}" in build.notes


def test_tables_of_halves_that_reach_their_end_are_refused(tmp_path: Path) -> None:
    """Rounded, the largest of them would be infinite."""
    text = "(int64[N] i) => (float16[N,8] x) { r=Gather(a,i) x=Neg(r) }"
    arrays: dict[str, Any] = {"a": np.tile(np.linspace(-65504, 65504, 8), (50, 1)).astype(np.float16)}
    with pytest.raises(InputError, match="table 'a' can't be stored as INT8: its numbers reach the end of FP16"):
        built(tmp_path, text, arrays, table_dtype=("int8",))


def test_a_table_that_another_operator_reads_stays_and_why_is_told(tmp_path: Path) -> None:
    text = "(int64[N] i, float[N,8] d) => (float[N,8] x, float[N,50] y) { r=Gather(a,i) x=Neg(r) w=Transpose<perm=[1,0]>(a) y=MatMul(d,w) }"
    arrays = {"a": table(50, 8)}
    build = built(tmp_path, text, arrays, table_dtype=("int8",))
    assert build.plan.tables[0].stored == "FP32"
    assert any("table 'a' stays FP32: Transpose" in note and "reads it too" in note for note in build.notes)
    with pytest.raises(InputError, match="table 'a' can't be stored as INT8: Transpose"):
        built(tmp_path, text, arrays, table_dtype=("a=int8",))


@pytest.mark.parametrize(
    "reading",
    ["d=Gather(a,k) x=Add(y,d)", "c=Identity(a) d=Gather(c,k) x=Add(y,d)", "e=Gather<axis=1>(a,k) d=ReduceMean<keepdims=0>(e) x=Add(y,d)"],
)
def test_a_table_of_which_constant_rows_are_read_stays(reading: str, tmp_path: Path) -> None:
    """Such a reading is folded away, and what it gave would be of rows that aren't rounded."""
    text = f"(int64[N,3] i) => (float[N,8] x) {{ r=Gather(a,i) y=ReduceSum<keepdims=0>(r,one) {reading} }}"
    arrays: dict[str, Any] = {"a": table(50, 8), "one": np.array([1]), "k": np.array(3)}
    build = built(tmp_path, text, arrays, table_dtype=("int4",))
    assert build.plan.tables[0].stored == "FP32" and any("table 'a' stays FP32: Gather" in note for note in build.notes)


@pytest.mark.parametrize(
    "make",
    [
        lambda m, ids: m.emb(ids).sum(1) + m.emb.weight[0],
        lambda m, ids: m.emb(ids).sum(1) + m.emb(torch.tensor([1, 2])).sum(0),
        lambda m, ids: m.emb(ids).sum(1) + m.emb.weight[:8, 0],
    ],
)
def test_a_module_that_reads_rows_by_constants_keeps_its_table(make: Callable[[Any, torch.Tensor], torch.Tensor], tmp_path: Path) -> None:
    build = parts_of(make, tmp_path, table_dtype=("int8",))
    assert build.plan.tables[0].stored == "FP32" and any("stays FP32" in note for note in build.notes)


def test_a_table_that_is_tied_to_a_layer_stays(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        """All items scored by the vectors that a history is pooled of."""

        def __init__(self) -> None:
            super().__init__()
            self.items = torch.nn.EmbeddingBag(50, 8)
            self.score = torch.nn.Linear(8, 50, bias=False)
            self.score.weight = self.items.weight

        def forward(self, history: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.score(self.items(history))
            return scores

    history = torch.randint(0, 50, (4, 5), generator=torch.Generator().manual_seed(0))
    build = recsplit.build(Tied().eval(), (history,), out=tmp_path, name="tied", table_dtype=("int8",), search_s=0)
    assert build.plan.tables[0].stored == "FP32" and any("stays FP32" in note for note in build.notes)
