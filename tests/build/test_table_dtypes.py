"""Tables that are stored in fewer bits: what lies in the files, and what is proved."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import recsplit
from recsplit.engine.compilation import unavailable
from recsplit.errors import RecsplitError
from recsplit.plan.files import TABLES_FILE
from recsplit.plan.plan import Segment
from recsplit.proof import published
from recsplit.proof.parts import joined
from recsplit.rows import stored as narrow
from recsplit.zoo import tiny
from tests.build.onnx_models import built
from tests.build.partitions import write_partition
from tests.build.rounded_models import ARRAYS, TEXT, dlrm, parts_of
from tests.graph.small import proto, table

MIXED = ("int8", "item=int4", "tags=fp16")


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


def test_equal_tables_are_rounded_alike(tmp_path: Path) -> None:
    """Small weights that are equal become one when a model is exported."""
    build = parts_of(lambda m, ids: m.emb(ids[:, :2]).sum(1) * 2 + m.other(ids[:, 2:]).sum(1), tmp_path, table_dtype=("int4",))
    assert {item.stored for item in build.plan.tables} == {"INT4"}
    assert {name for loss in build.plan.losses for name in loss.weights} == {"emb.weight", "other.weight"}


def test_a_weight_that_is_indexed_is_a_table(tmp_path: Path) -> None:
    build = parts_of(lambda m, ids: m.w[ids].sum(1), tmp_path, table_dtype=("w=int8",))
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
