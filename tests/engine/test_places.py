"""Ids become places in shards elsewhere: in the engine the same ones, and the same marks, as by the operators of the embedding model."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit.building.build import Built
from recsplit.engine.compilation import unavailable
from recsplit.errors import RecsplitError
from recsplit.plan.files import MODEL_FILE, PLACES_FILE, RECIPE_FILE
from recsplit.plan.plan import Segment, Tensor
from recsplit.plan.recipe import EngineLookup, Recipe, Stored, to_json
from recsplit.proof.by_engine import engine_run
from recsplit.proof.parts import session
from tests.build.onnx_models import build_of
from tests.build.partitions import profile_file, write_partition
from tests.engine.models import answered, config_of, opened
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


def pieces_of(rows: int, count: int, random: np.random.Generator) -> NDArray[np.int32]:
    """The places of a table's rows that `count` shards share at random, each its rows in the order of their numbers."""
    shard = random.integers(0, count, rows)
    places = np.empty(rows, np.int32)
    starts = 7 + np.cumsum(np.bincount(shard, minlength=count)) + 100 * random.permutation(count)  # gaps, where other tables' rows are
    for number in range(count):
        places[shard == number] = starts[number] + np.arange(np.sum(shard == number))
    return places


#: Places that count up in so many pieces, and such as the engine can't hold in few bits.
MAPS: dict[str, Callable[[int, np.random.Generator], NDArray[np.int32]]] = {
    **{f"{count} pieces": lambda rows, random, count=count: pieces_of(rows, count, random) for count in (1, 2, 3, 7, 16)},  # type: ignore[misc]
    "many pieces": lambda rows, random: pieces_of(rows, 40, random),
    "any order": lambda rows, random: random.permutation(rows).astype(np.int32),
    "one place": lambda rows, _: np.full(rows, 5, np.int32),
    "at the end of INT32": lambda rows, _: np.arange(2**31 - rows, 2**31).astype(np.int32),
    "negative": lambda rows, _: np.arange(-1, rows - 1, dtype=np.int32),
}


@pytest.mark.parametrize("rows", [1, 64, 1000, 70_000])
@pytest.mark.parametrize("kind", MAPS)
def test_a_map_says_what_it_said_in_the_file(kind: str, rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(rows)
    maps = [MAPS[kind](rows, random), pieces_of(rows, 2, random)]
    np.concatenate([np.zeros(3, np.int32), *maps]).tofile(tmp_path / PLACES_FILE)
    config, recipe = places_only(rows, [3, 3 + rows])
    (tmp_path / RECIPE_FILE).write_text(recipe)
    ids = random.integers(0, rows, (5, 600))
    ids[0, :2] = (0, rows - 1)
    padded = ids.copy()
    padded[1, ::7], padded[2, 3] = -1, rows
    for kernels in ("portable", ""):
        with opened(tmp_path, config, kernels=kernels) as model:
            for given in (ids, padded):
                (answer,) = answered(model, [{"ids": given}])
                inside = (given >= 0) & (given < rows)
                rows_of = np.where(inside, given, 0)
                want = np.concatenate([maps[0][rows_of[:, :300]], maps[1][rows_of[:, 300:]]], axis=1)
                np.testing.assert_array_equal(answer["places"], np.where(inside, want, 9))
    compact = (kind.endswith("pieces") and kind != "many pieces") or kind == "at the end of INT32"
    assert (f"{PLACES_FILE} " in model_words(tmp_path, config)) == (not compact and (rows > 16 or kind == "negative"))


def test_a_map_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    np.arange(999, dtype=np.int32).tofile(tmp_path / PLACES_FILE)
    config, recipe = places_only(1000, [0, 0])
    (tmp_path / RECIPE_FILE).write_text(recipe)
    with pytest.raises(RecsplitError, match="ends before its last table does"):
        opened(tmp_path, config)


def model_words(folder: Path, config: dict[str, Any]) -> str:
    with opened(folder, config) as model:
        return model.loaded


def places_only(rows: int, starts: Sequence[int]) -> tuple[dict[str, Any], str]:
    """A model that only turns 300 ids of each of two tables of shards elsewhere into places; its config and its recipe. `starts`: of the
    tables' maps in the file, in elements."""
    inputs, outputs = (Tensor("ids", "INT64", (600,)),), (Tensor("places", "INT32", (600,)),)
    lookups = tuple(
        EngineLookup(
            table=None, base=0, rows=rows, fallback=9, none=9, pooling="none", width=300, bags=1, first=300 * number, shifts=(0,), output=0,
            place=300 * number, input=0, order=number,
        )
        for number in range(2)
    )  # fmt: skip
    buffers = tuple(Stored(PLACES_FILE, 4 * start, "INT32", size=rows) for start in starts)
    return config_of(inputs, outputs), to_json([Recipe(inputs, (), buffers, (), (), (), outputs, lookups, (), None)])
