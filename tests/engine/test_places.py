"""Ids become places in shards elsewhere: in the engine the same ones, and the same marks, as by the operators of the embedding model."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.building.build import Built
from recsplit.engine.compilation import unavailable
from recsplit.plan.files import MODEL_FILE, RECIPE_FILE
from recsplit.plan.plan import Segment, Tensor
from recsplit.proof.by_engine import engine_run
from recsplit.proof.parts import session
from tests.build.onnx_models import build_of
from tests.build.partitions import profile_file, write_partition
from tests.graph.small import Array

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

#: A bag of each kind, ids that a program makes, and ids that count as none.
SOURCES = ("tiny:dlrm", "lookups:mod_hash", "bags:sum_fixed_padding", "bags:max_fixed")
#: How tables are shared out: by heat each table in pieces; some by heat and the others whole; whole, in the order of their rows.
LAYOUTS = ("by heat", "some by heat", "whole")
#: Each in pieces in the order of its rows: what has no map, and more than one shift, is left to the operators.
CUT = "in pieces by number"


def shards_of(rows: dict[str, int], layout: str) -> list[list[Segment]]:
    """The segments of three shards."""
    shards: list[list[Segment]] = [[], [], []]
    for number, (name, size) in enumerate(rows.items()):
        in_pieces = layout in ("by heat", CUT) or (layout == "some by heat" and number % 2 == 0)
        cuts = sorted({0, min(size, 1 + size // 7), min(size, 1 + size // 2), size}) if in_pieces else (0, size)
        for piece, (first, last) in enumerate(itertools.pairwise(cuts)):
            shards[(piece + number) % 3].append(Segment(name, first, last))
    return [segments for segments in shards if segments]


def built(source: str, layout: str, unknown_ids: str, folder: Path) -> Built:
    source = f"recsplit.zoo.{source}"
    settings: dict[str, Any] = {"embedding_runtime": "native", "unknown_ids": unknown_ids, "search_s": 0}
    rows = {table.name: table.rows for table in build_of(source, folder / "plain", **settings).plan.tables}
    profile = None if layout in ("whole", CUT) else profile_file(folder / "access.npz", rows)
    partition = write_partition(folder / "p.json", shards_of(rows, layout), profile=profile)
    return build_of(source, folder / "models", partition=partition, access=profile, **settings)


def drawn(tensor: Tensor, batch: int, random: np.random.Generator) -> Array:
    """Ids in and around every table, and the numbers at both ends of their type."""
    shape = (batch, *tensor.dims)
    if tensor.dtype not in ("INT32", "INT64"):
        return random.standard_normal(shape).astype(np.float32)
    ids = random.integers(-20, 1200, shape)
    ids[random.random(shape) < 0.5] %= 40
    dtype = np.int32 if tensor.dtype == "INT32" else np.int64
    ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, -1])
    return np.where(random.random(shape) < 0.02, random.choice(ends, shape), ids).astype(dtype)


@pytest.mark.parametrize(("source", "layout", "unknown_ids"), [
    *itertools.product(SOURCES, LAYOUTS, ("error",)),
    *itertools.product(("tiny:dlrm",), (*LAYOUTS, CUT), ("zero", "row=2")),
])  # fmt: skip
def test_places_are_those_of_the_operators(source: str, layout: str, unknown_ids: str, tmp_path: Path) -> None:
    build = built(source, layout, unknown_ids, tmp_path)
    plan, folder = build.plan, build.repository / build.plan.embedding.name / "1"
    assert plan.readings and (folder / RECIPE_FILE).is_file() == (layout != CUT)
    by_operators, by_engine, random = session(folder / MODEL_FILE), engine_run(folder, plan.embedding, plan), np.random.default_rng(0)
    for batch in (1, 7, 64):
        feeds = {tensor.name: drawn(tensor, batch, random) for tensor in plan.embedding.inputs}
        want, got = by_operators(feeds), by_engine(feeds)
        assert got.keys() == want.keys()
        for name, values in want.items():
            np.testing.assert_array_equal(got[name], values, err_msg=name)
