"""Tables that are stored in fewer bits: what lies in the files, what is proved, what is refused, and what a budget chooses."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recsplit
from recsplit.building.build import Built
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import TABLES_FILE
from recsplit.plan.plan import Segment
from recsplit.proof import published
from recsplit.rows import stored as narrow
from recsplit.zoo import tiny
from tests.build.onnx_models import built
from tests.build.partitions import write_partition
from tests.graph.small import Array, table

MIXED = ("int8", "item=int4", "tags=fp16")
#: Pooled in every way, and read as they are; dims that fill no vector, and one that is odd.
ARRAYS: dict[str, Array] = {"a": table(50, 7), "b": table(60, 16, seed=1), "c": table(70, 33, seed=2), "one": np.array([1])}
TEXT = (
    "(int64[N,3] i, int64[N,4] j, int64[N,2] k) => (float[N,7] x, float[N,16] y, float[N,16] z, float[N,2,33] v) {"
    " r=Gather(a,i) x=ReduceSum<keepdims=0>(r,one) s=Gather(b,j) y=ReduceMean<axes=[1],keepdims=0>(s)"
    " t=Gather(b,j) z=ReduceMax<axes=[1],keepdims=0>(t) u=Gather(c,k) v=Neg(u) }"
)


def dlrm(out: Path, **settings: Any) -> Built:
    return recsplit.build(tiny.dlrm, out=out, name="shop", search_s=0.2, **settings)


def test_each_table_lies_in_the_file_as_it_was_asked_for(tmp_path: Path) -> None:
    build = dlrm(tmp_path, table_dtype=MIXED)
    stored = {item.name: (item.dtype, item.stored, item.size_bytes) for item in build.plan.tables}
    assert stored == {"user": ("FP32", "INT8", 1000 * 12), "item": ("FP32", "INT4", 400 * 8), "tags": ("FP32", "FP16", 100 * 16)}
    data = (tmp_path / "shop_embedding" / "1" / TABLES_FILE).read_bytes()
    module = tiny.dlrm()[0]
    for name, kind in (("user", "INT8"), ("item", "INT4"), ("tags", "FP16")):
        rows = narrow.encode(getattr(module, name).weight.detach().numpy(), kind)
        assert rows.tobytes() + bytes(rows[0].nbytes) in data  # and a row of zeros behind them
    for loss in build.plan.losses:
        assert 0 < loss.rms < loss.largest <= loss.half_step * (1 + 1e-5)
    assert any("stored as INT4" in note for note in build.notes)


@pytest.mark.parametrize("stored", ["fp16", "bf16", "int8", "int4"])
@pytest.mark.parametrize("policy", ["error", "zero", "row=3"])
def test_every_pooling_of_every_kind_of_row_is_proved(stored: str, policy: str, tmp_path: Path) -> None:
    """By both forms, in the build and again from what was published."""
    build = built(tmp_path, TEXT, ARRAYS, table_dtype=(stored,), unknown_ids=policy)
    assert {item.stored for item in build.plan.tables} == {stored.upper()}
    assert all(difference.ok for difference in published.verify(build.repository))


@pytest.mark.parametrize("kinds", list(itertools.product(("fp32", "int4"), ("int8", "bf16"), ("fp16", "int8"))))
def test_shards_hold_rows_as_they_are_stored(kinds: tuple[str, str, str], tmp_path: Path) -> None:
    shards = [[Segment("a", 0, 20), Segment("c", 0, 70)], [Segment("a", 20, 50), Segment("b", 0, 11)], [Segment("b", 11, 60)]]
    dtypes = tuple(f"{name}={kind}" for name, kind in zip("abc", kinds, strict=True))
    build = built(tmp_path, TEXT, ARRAYS, table_dtype=dtypes, partition=write_partition(tmp_path / "p.json", shards))
    assert all(difference.ok for difference in published.verify(build.repository))
    sizes = {item.name: item.size_bytes // item.rows for item in build.plan.tables}
    assert [shard.size_bytes for shard in build.plan.shards] == [
        sum((segment.last - segment.first) * sizes[segment.table] for segment in segments) for segments in shards
    ]


def _module() -> tuple[Any, dict[str, Any]]:
    module, inputs = tiny.dlrm()[:2]
    return module, {"example_inputs": inputs}


def _program() -> tuple[Any, dict[str, Any]]:
    module, inputs = tiny.dlrm()[:2]
    return torch.export.export(module, inputs, dynamic_shapes=[{0: torch.export.Dim("batch")}] * 4), {}


@pytest.mark.parametrize("source", [_module, _program])
def test_sources_in_memory_are_rounded_and_stay_as_they_were(source: Callable[[], tuple[Any, dict[str, Any]]], tmp_path: Path) -> None:
    model, given = source()
    state = model.state_dict() if isinstance(model, torch.nn.Module) else model.state_dict
    before = {name: tensor.clone() for name, tensor in state.items()}
    build = recsplit.build(model, **given, out=tmp_path, name="shop", table_dtype=("int8",), search_s=0)
    assert {item.stored for item in build.plan.tables} == {"INT8"}
    assert all(torch.equal(before[name], tensor) for name, tensor in state.items())


def test_the_source_is_rounded_when_it_is_asked_again(tmp_path: Path) -> None:
    build = dlrm(tmp_path, table_dtype=("int4",))
    proof = recsplit.verify(build, source=tiny.dlrm)
    again = next(difference for difference in proof if difference.stage == "source - recorded")
    assert proof.ok and again.relative < 1e-6

    def another() -> Any:
        module, inputs = tiny.dlrm()[:2]
        with torch.no_grad():
            module.get_parameter("user.weight").mul_(1.5)
        return module, inputs

    assert not recsplit.verify(build, source=another).ok


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
def test_a_code_that_is_off_by_one_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are rounded twice, for the source and for the file: the proof holds one against the other."""
    encode, calls = narrow.encode, itertools.count()

    def wrong(numbers: narrow.Floats, stored: str) -> Any:
        rows = encode(numbers, stored)
        if next(calls) >= 3:  # after the three tables of the source
            rows[len(rows) // 2 :, 5] ^= 1
        return rows

    monkeypatch.setattr(narrow, "encode", wrong)
    with pytest.raises(RecsplitError, match="source"):
        dlrm(tmp_path, table_dtype=("int4",))
    assert not (tmp_path / "shop").exists()


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
    with pytest.raises(InputError, match="table 'a' can't be stored as INT8: a number is infinite, NaN or beyond what FP16 reaches"):
        built(tmp_path, TEXT, arrays, table_dtype=("a=int8",))


def test_a_table_that_another_operator_reads_stays_and_why_is_told(tmp_path: Path) -> None:
    text = "(int64[N] i, float[N,8] d) => (float[N,8] x, float[N,50] y) { r=Gather(a,i) x=Neg(r) w=Transpose<perm=[1,0]>(a) y=MatMul(d,w) }"
    arrays = {"a": table(50, 8)}
    build = built(tmp_path, text, arrays, table_dtype=("int8",))
    assert build.plan.tables[0].stored == "FP32"
    assert any("table 'a' stays FP32: Transpose" in note and "reads it too" in note for note in build.notes)
    with pytest.raises(InputError, match="table 'a' can't be stored as INT8: Transpose"):
        built(tmp_path, text, arrays, table_dtype=("a=int8",))


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


@pytest.mark.parametrize("stored", ["int8", "int4"])
def test_tables_of_halves_are_stored_in_codes(stored: str, tmp_path: Path) -> None:
    """Vectors stay of the type that the source has them in."""
    text = (
        "(int64[N,3] i, int64[N] j) => (float16[N,16] x, float16[N,16] y)"
        " { r=Gather(a,i) x=ReduceSum<keepdims=0>(r,one) q=Gather(a,j) y=Neg(q) }"
    )
    arrays: dict[str, Any] = {"a": table(50, 16).astype(np.float16), "one": np.array([1])}
    build = built(tmp_path, text, arrays, table_dtype=(stored,))
    assert [(item.dtype, item.stored) for item in build.plan.tables] == [("FP16", stored.upper())]
    assert all(difference.ok for difference in published.verify(build.repository))
