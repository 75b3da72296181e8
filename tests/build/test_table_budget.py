"""A budget for tables: what is chosen is the best that fits, by their numbers or by labelled rows."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recsplit
from recsplit.building.budget import Choice, cheapest
from recsplit.building.build import Built
from recsplit.errors import InputError
from recsplit.zoo import tiny

KINDS = ("FP32", "FP16", "INT8", "INT4")


@given(st.data())
def test_the_choice_is_the_best_of_all(data: st.DataObject) -> None:
    choices = [
        [
            Choice(kind, data.draw(st.integers(1, 50)) * 10, 0.0 if kind == "FP32" else data.draw(st.floats(1e-9, 1)))
            for kind in KINDS[: data.draw(st.integers(1, 4))]
        ]
        for _ in range(data.draw(st.integers(1, 4)))
    ]
    budget = sum(min(choice.size_bytes for choice in of_table) for of_table in choices) + data.draw(st.integers(0, 800))
    best = min(
        sum(choice.loss for choice in every)
        for every in itertools.product(*choices)
        if sum(choice.size_bytes for choice in every) <= budget
    )
    chosen = [
        next(choice for choice in of_table if choice.stored == stored)
        for of_table, stored in zip(choices, cheapest(choices, budget), strict=True)
    ]
    assert sum(choice.size_bytes for choice in chosen) <= budget
    assert sum(choice.loss for choice in chosen) <= best * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize("budget", [1_000_001_500, 1_000_002_000, 2_000_001_999, 1_000_001_000])
def test_the_budget_is_kept_to_the_byte(budget: int) -> None:
    """The solver keeps it to a millionth only."""
    choices = [
        [Choice("FP32", 2_000_000_000, 0.0), Choice("INT8", 1_000_000_000, 1e-3)],
        [Choice("FP32", 2000, 0.0), Choice("INT8", 1000, 1e-9)],
    ]
    chosen = cheapest(choices, budget)
    assert (
        sum(next(item.size_bytes for item in of_table if item.stored == stored) for of_table, stored in zip(choices, chosen, strict=True))
        <= budget
    )


def build(out: Path, **settings: Any) -> Built:
    return recsplit.build(tiny.dlrm, out=out, name="shop", search_s=0, **settings)


def size(built: Built) -> int:
    return sum(table.size_bytes for table in built.plan.tables)


def test_tables_fit_the_budget_and_no_narrower_than_they_must(tmp_path: Path) -> None:
    whole = size(build(tmp_path / "whole"))
    assert {table.stored for table in build(tmp_path / "fits", table_budget=whole).plan.tables} == {"FP32"}
    losses = []
    for share in (0.6, 0.4, 0.27):
        built = build(tmp_path / str(share), table_budget=int(whole * share))
        assert size(built) <= whole * share
        losses.append(sum((loss.rms / loss.rms_numbers) ** 2 for loss in built.plan.losses))
    assert losses == sorted(losses) and losses[0] < losses[-1]
    with pytest.raises(InputError, match=r"--table-budget is .*, and the tables take 12.0 kB at least"):
        build(tmp_path / "none", table_budget=whole // 5)


def labelled_rows(path: Path, rows: int = 3000) -> Path:
    """Rows whose labels the model itself drew."""
    module, inputs = tiny.dlrm(batch=rows)[:2]
    scores = module(*inputs).detach().numpy().reshape(-1)
    labels = scores > np.quantile(scores, 0.7) + np.random.default_rng(0).normal(0, scores.std() / 3, rows)
    arrays = dict(zip(("dense", "user", "item", "tags"), (tensor.numpy() for tensor in inputs), strict=True))
    np.savez(path, label=labels, **arrays)
    return path


def test_labelled_rows_decide_which_tables_are_narrowed_and_tell_the_auc(tmp_path: Path) -> None:
    whole = 48_000
    built = build(tmp_path / "m", table_budget=int(whole * 0.35), evaluation=labelled_rows(tmp_path / "eval.npz"))
    assert size(built) <= whole * 0.35
    assert built.quality is not None and built.quality.rows == 3000
    assert 0.6 < built.quality.auc.exact <= 1 and abs(built.quality.auc.change) < 0.01
    assert any(note.startswith("AUC on 3,000 rows: ") for note in built.notes)


def test_both_a_budget_and_wishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--table-budget lets recsplit choose"):
        build(tmp_path, table_budget=10_000, table_dtype=("int8",))
