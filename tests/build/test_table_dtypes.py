"""Tables that are stored in fewer bits: what lies in the files, what is proved, what is refused, and what a budget chooses."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import recsplit
from recsplit.building.build import Built
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.files import TABLES_FILE
from recsplit.plan.plan import Segment
from recsplit.proof import published
from recsplit.proof.parts import joined
from recsplit.rows import stored as narrow
from recsplit.zoo import tiny
from tests.build.onnx_models import built
from tests.build.partitions import write_partition
from tests.graph.small import Array, proto, table

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


class _Parts(torch.nn.Module):
    """Whatever a function makes of an embedding and ids [batch, 4]."""

    def __init__(self, make: Callable[[Any, torch.Tensor], torch.Tensor], rows: int = 50) -> None:
        super().__init__()
        self.emb, self.other, self.make = torch.nn.Embedding(rows, 8), torch.nn.Embedding(rows, 8), make
        self.other.load_state_dict(self.emb.state_dict())
        self.w = torch.nn.Parameter(torch.randn(rows, 8, generator=torch.Generator().manual_seed(1)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.make(self, ids)


def _of(make: Callable[[Any, torch.Tensor], torch.Tensor], out: Path, **settings: Any) -> Built:
    torch.manual_seed(0)
    return recsplit.build(_Parts(make).eval(), (torch.arange(12).reshape(3, 4),), out=out, name="parts", search_s=0.2, **settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda m, ids: m.emb(ids).sum(1) + m.emb.weight[0],
        lambda m, ids: m.emb(ids).sum(1) + m.emb(torch.tensor([1, 2])).sum(0),
        lambda m, ids: m.emb(ids).sum(1) + m.emb.weight[:8, 0],
    ],
)
def test_a_module_that_reads_rows_by_constants_keeps_its_table(make: Callable[[Any, torch.Tensor], torch.Tensor], tmp_path: Path) -> None:
    build = _of(make, tmp_path, table_dtype=("int8",))
    assert build.plan.tables[0].stored == "FP32" and any("stays FP32" in note for note in build.notes)


def test_equal_tables_are_rounded_alike(tmp_path: Path) -> None:
    """Small weights that are equal become one when a model is exported."""
    build = _of(lambda m, ids: m.emb(ids[:, :2]).sum(1) * 2 + m.other(ids[:, 2:]).sum(1), tmp_path, table_dtype=("int4",))
    assert {item.stored for item in build.plan.tables} == {"INT4"}
    assert {name for loss in build.plan.losses for name in loss.weights} == {"emb.weight", "other.weight"}


def test_a_weight_that_is_indexed_is_a_table(tmp_path: Path) -> None:
    build = _of(lambda m, ids: m.w[ids].sum(1), tmp_path, table_dtype=("w=int8",))
    assert [item.stored for item in build.plan.tables] == ["INT8"]


class _Bags(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = torch.nn.EmbeddingBag(50, 8, mode="sum", include_last_offset=True)

    def forward(self, values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.bag(values, offsets)
        return pooled


@pytest.mark.parametrize("form", ["padded", "chunked"])
@pytest.mark.parametrize("stored", ["int8", "int4"])
def test_bags_of_any_length(form: Any, stored: str, tmp_path: Path) -> None:
    """Long ones, whose rounding is torch's; and none at all, of which nothing can be divided."""
    torch.manual_seed(4)
    values = torch.randint(0, 50, (3000,), generator=torch.Generator().manual_seed(0))
    build = recsplit.build(
        _Bags().eval(), (values, torch.tensor([0, 2900, 2900, 3000])), out=tmp_path, name="bags", search_s=0.3,
        table_dtype=(stored,), bag_form=form,
    )  # fmt: skip
    assert all(difference.ok for difference in build.differences)


def test_requests_without_ids_are_answered(tmp_path: Path) -> None:
    text = "(int64[N,K] i) => (float[N,7] x) { r=Gather(a,i) x=ReduceSum<keepdims=0>(r,one) }"
    build = built(tmp_path, text, ARRAYS, table_dtype=("int4",))
    for by_engine in (False, True) if unavailable() is None else (False,):
        run = joined(build.repository, build.plan, by_engine=by_engine)
        np.testing.assert_array_equal(run({"i": np.zeros((3, 0), np.int64)})["x"], np.zeros((3, 7)))


def test_rows_of_the_smallest_numbers_are_rounded(tmp_path: Path) -> None:
    """As decay of weights leaves them."""
    arrays = {**ARRAYS, "a": ARRAYS["a"].copy()}
    arrays["a"][7] *= np.float32(1e-39)
    for number, stored in enumerate(("bf16", "fp16", "int8", "int4")):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert {item.stored for item in built(folder, TEXT, arrays, table_dtype=(stored,)).plan.tables} == {stored.upper()}


def test_names_with_brackets_are_names(tmp_path: Path) -> None:
    text = TEXT.replace("(a,i)", "(a0,i)")
    arrays = {"a0" if name == "a" else name: data for name, data in ARRAYS.items()}
    model = proto(text, arrays)
    for value in (*model.graph.initializer, *(node for node in model.graph.node)):
        if hasattr(value, "name") and value.name == "a0":
            value.name = "a[0]"
    for node in model.graph.node:
        node.input[:] = ["a[0]" if name == "a0" else name for name in node.input]
    build = recsplit.build(model, out=tmp_path, name="m", table_dtype=("a[0]=int8",), search_s=0)
    assert {item.name: item.stored for item in build.plan.tables} == {"a[0]": "INT8", "b": "FP32", "c": "FP32"}


def test_tables_of_one_name_are_told_apart_when_the_source_is_asked_again(tmp_path: Path) -> None:
    text = "(int64[N] i, int64[N] j) => (float[N,8] x, float[N,8] y) { r=Gather(emb,i) x=Neg(r) s=Gather(two,j) y=Neg(s) }"
    model = proto(text, {"emb": table(50, 8), "two": table(50, 8, seed=1)})
    model.graph.initializer[1].name = "emb.weight"
    model.graph.node[2].input[0] = "emb.weight"
    onnx.save(model, tmp_path / "two.onnx")
    build = recsplit.build(str(tmp_path / "two.onnx"), out=tmp_path / "models", name="m", table_dtype=("int4",), search_s=0)
    assert recsplit.verify(build, source=str(tmp_path / "two.onnx")).ok


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
