"""The search for inputs that tell the parts from the source: each mend that is taken out is noticed, and shrunk to what matters."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnxscript.optimizer import optimize_ir
from torch import nn

import recsplit
from recsplit.errors import RecsplitError
from recsplit.graph import border, cut
from recsplit.graph.emit import Emit
from recsplit.graph.lower import ragged_bags, ragged_inputs
from recsplit.graph.lower.fused_tables import FusedTable
from recsplit.graph.lower.pooling import mean
from recsplit.load import export
from recsplit.plan.plan import Pooling
from recsplit.proof import search
from tests.proof.broken_models import clamped, last_of_history, masked_by_ids, masked_mean, shared_offsets, two_hashed_bags, weighted_bag

AUTO = torch.export.Dim.AUTO


class Positions(nn.Module):
    """Vectors times the weights of their positions."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.weights = nn.Embedding(50, 8), nn.Parameter(torch.randn(4, 8))

    def forward(self, ids: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.item(ids) * self.weights.index_select(0, position))


def refused(model: Any, folder: Path, **settings: Any) -> str:
    """What the refusal of the build says in detail."""
    with pytest.raises(RecsplitError) as error:
        recsplit.build(model, out=folder / "models", name="m", **settings)
    assert not list((folder / "models").glob("m*"))
    return error.value.detail


def test_models_that_once_broke_are_built_and_searched(tmp_path: Path) -> None:
    for model in (masked_mean, clamped, two_hashed_bags, weighted_bag, masked_by_ids, shared_offsets):
        built = recsplit.build(model, out=tmp_path / "models", name=model.__name__)
        assert search.STAGE in {difference.stage for difference in built.differences}
        assert "rows of numbers, ids and bags that break models" in " ".join(built.notes)


def test_an_epsilon_that_is_dropped_is_found_by_a_mask_of_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "simplify", optimize_ir)
    detail = refused(masked_mean, tmp_path)
    assert "one row: mask: zeros" in detail
    assert "differs by inf" in detail


def test_a_symbol_for_two_sizes_is_found_by_bags_of_two_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_rows = ragged_inputs.as_rows

    def shared(emit: Emit, *arguments: Any, **settings: Any) -> Any:
        answer = as_rows(emit, *arguments, **settings)
        for value in emit.graph.inputs:
            if value.shape is not None and str(value.shape[-1]).endswith("_slots"):
                value.shape = ir.Shape(["batch", "slots"])
        return answer

    monkeypatch.setattr(ragged_bags, "as_rows", shared)
    monkeypatch.setattr(border, "forget_symbols", lambda model: None)
    detail = refused(two_hashed_bags, tmp_path)
    assert "the parts fail" in detail


def test_int64_operators_that_onnxruntime_computes_wrongly_are_found_by_large_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "rewrite_int64", lambda model: None)
    detail = refused(clamped, tmp_path)
    assert "one row: ids: id 2**31" in detail or "one row: ids: id 3 * 10**9" in detail or "ids of any size" in detail


def running(
    emit: Emit, fused: FusedTable, mode: Pooling, dtype: ir.DataType, row: ir.Value, counted: ir.Value, scale: ir.Value | None
) -> ir.Value:
    """Pooling as it once was: a running sum over all ids of the batch, differenced at the bags' ends."""
    where = emit.op("Transpose", emit.op("NonZero", counted), perm=[1, 0])
    vectors = emit.cast(emit.op("Gather", fused.value, emit.op("GatherND", row, where), axis=0), ir.DataType.DOUBLE)
    if scale is not None:
        vectors = emit.op("Mul", vectors, emit.unsqueeze(emit.cast(emit.op("GatherND", scale, where), ir.DataType.DOUBLE), 1))
    sums = emit.op("Concat", emit.const(np.zeros((1, fused.dim)), np.float64), emit.op("CumSum", vectors, emit.const(0)), axis=0)
    count = emit.reduce("ReduceSum", emit.cast(counted, ir.DataType.INT64), 2)
    ends = emit.op("CumSum", emit.reshape(count, [-1]), emit.const(0))
    begins = emit.op("Sub", ends, emit.reshape(count, [-1]))
    total = emit.op("Sub", emit.op("Gather", sums, ends, axis=0), emit.op("Gather", sums, begins, axis=0))
    pooled = emit.op("Reshape", emit.cast(total, dtype), emit.op("Concat", emit.op("Shape", count), emit.const([fused.dim]), axis=0))
    return mean(emit, pooled, counted, axis=2, dtype=dtype) if mode == "mean" else pooled


def test_a_sum_that_runs_across_rows_is_found_by_a_large_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged_bags, "_pool_chunks", running)
    detail = refused(weighted_bag, tmp_path, bag_form="chunked")
    assert "weights: " in detail
    assert "rows: " in detail  # one row alone answers right


def test_the_search_ends_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_MOST_BATCHES", 60)  # other tests' are short: tests/sooner.py
    built = recsplit.build(masked_mean, out=tmp_path / "models", name="m", search_s=0.0)
    always = [difference.runs for difference in built.differences if difference.stage == search.STAGE]
    longer = recsplit.build(masked_mean, out=tmp_path / "models", name="m", search_s=30.0)
    assert always < [difference.runs for difference in longer.differences if difference.stage == search.STAGE]


def test_rows_that_the_source_cant_answer_are_left_out(tmp_path: Path) -> None:
    """A position of -1 is one that torch refuses here: no reason to refuse the model."""

    built = recsplit.build(Positions(), (torch.randint(0, 50, (4,)), torch.randint(0, 4, (4,))), out=tmp_path / "models", name="m")
    assert all(difference.ok for difference in built.differences)


def test_made_up_rows_that_the_source_fails_on_are_left_out_and_told(tmp_path: Path) -> None:
    built = recsplit.build(last_of_history, out=tmp_path / "models", name="m")
    assert any("the source fails on" in note for note in built.notes)
    compared = [difference for difference in built.differences if difference.stage == "source - whole"]
    assert compared and all(difference.ok for difference in compared)
