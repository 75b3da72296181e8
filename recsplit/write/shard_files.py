"""Writing a sharded build's files: the embedding model with its maps, each shard with its rows, the dense model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from recsplit.graph.shards.csr import CsrTable, bags_model
from recsplit.graph.shards.models import ShardTable
from recsplit.graph.shards.places import Order, Stretch, TablePlaces, rows_at
from recsplit.graph.shards.recipes import MapFile, places_recipe, shard_recipe
from recsplit.graph.shards.shards import Sharded
from recsplit.graph.stored import file_dtype, file_width, read_stored
from recsplit.plan.files import BAGS_FILE, BAGS_RECIPE_FILE, MODEL_FILE, PLACES_FILE, RECIPE_FILE, TABLES_FILE
from recsplit.plan.plan import Reading
from recsplit.plan.recipe import BagsReading, bags_json, to_json
from recsplit.rows import stored as narrow
from recsplit.write import submodels
from recsplit.write.row_order import Narrowed, Picked
from recsplit.write.tables import Entry, write_external


def write(
    sharded: Sharded,
    readings: Sequence[Reading],
    order: Order | None,
    embedding: Path,
    shards: Sequence[Path],
    dense: Path,
    *,
    by_engine: bool,
    progress: Callable[[int, int], None],
) -> None:
    """Write model files into the version folders, and with `by_engine` recipes where there are any. `order` as graph.places has it.

    Raises RecsplitError where the disk is full.
    A table's rows are copied a few MB at a time; in memory are its order and its map, while it is their turn.
    """
    maps = _write_embedding(sharded, order, readings if by_engine else (), embedding)
    entries = [[_entry(table, maps) for table in part.tables] for part in sharded.shards]
    total, done = sum(entry.size_bytes for shard_entries in entries for entry in shard_entries), 0
    for part, shard_entries, folder in zip(sharded.shards, entries, shards, strict=True):
        written = write_external(shard_entries, folder / TABLES_FILE, progress=partial(_further, progress, done, total))
        done += sum(entry.size_bytes for entry in shard_entries)
        tensors = {tensor.name or "": tensor for tensor in written}
        fused = submodels.by_name(table.layout.fused for table in part.tables)
        read_stored(part.model, fused)
        submodels.save(part.model, folder / MODEL_FILE, tensors)
        places = tuple(submodels.stored_rows(table.layout.fused, tensors[table.name], table.rows) for table in part.tables)
        recipe = shard_recipe(part, readings) if by_engine else None
        if recipe is not None:
            (folder / RECIPE_FILE).write_text(to_json([dataclasses.replace(recipe, tables=places)]), encoding="utf-8")
        readers = [(number, reading, part.places.get(reading.places)) for number, reading in enumerate(readings)]
        held = [(number, reading, table) for number, reading, table in readers if table is not None]
        if held:
            tables = [CsrTable(_unstored(table), table.zero_row, table.lowest_row) for _, _, table in held]
            model = bags_model([(number, reading, table) for (number, reading, _), table in zip(held, tables, strict=True)])
            read_stored(model, fused)
            submodels.save(model, folder / BAGS_FILE, tensors)
        if held and by_engine:
            bags = [BagsReading(number, part.tables.index(table), table.lowest_row, reading.poolings) for number, reading, table in held]
            (folder / BAGS_RECIPE_FILE).write_text(bags_json(places, bags), encoding="utf-8")
    submodels.write_dense(sharded.dense, dense)


def _unstored(table: ShardTable) -> ir.ExternalTensor:
    """A shard's rows as the numbers that they stand for, which lie nowhere."""
    fused = table.layout.fused
    dtype = submodels.data_of(fused.sources[0]).dtype
    size = int(table.rows * fused.dim * dtype.itemsize)
    return ir.ExternalTensor(TABLES_FILE, 0, size, dtype, shape=ir.Shape([table.rows, fused.dim]), name=table.name)


def _further(progress: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def _write_embedding(sharded: Sharded, order: Order | None, readings: Sequence[Reading], folder: Path) -> dict[str, NDArray[np.int32]]:
    """The embedding model with its maps, and the engine's recipe where the readings have one; returns the maps as they lie in the file, by
    the fused table's name."""
    entries = [
        Entry(name, tuple(_later(make_part, size) for make_part, size in layout.maps(order)))
        for name, layout in sharded.maps.items()
    ]  # fmt: skip
    entries += submodels.large_others(sharded.embedding, sharded.maps)
    tensors = {tensor.name or "": tensor for tensor in write_external(entries, folder / PLACES_FILE)} if entries else {}
    submodels.save(sharded.embedding, folder / MODEL_FILE, tensors)
    maps = {
        layout.fused.value.name or "": MapFile(tensors[name].numpy(), submodels.stored(tensors[name]))
        for name, layout in sharded.maps.items()
    }
    outputs = submodels.interface(sharded.embedding).outputs
    recipe = places_recipe(sharded.cut, outputs, sharded.layouts, readings, maps) if readings else None
    if recipe is not None:
        buffers = (*submodels.write_buffers(sharded.cut, tensors, folder), *recipe.buffers)
        (folder / RECIPE_FILE).write_text(to_json([dataclasses.replace(recipe, buffers=buffers)]), encoding="utf-8")
    return {name: held.places for name, held in maps.items()}


def _later(make_part: Callable[[], NDArray[np.int32]], size: int) -> ir.TensorProtocol:
    return ir.LazyTensor(lambda: ir.tensor(make_part()), ir.DataType.INT32, ir.Shape([size]))


def _entry(table: ShardTable, maps: Mapping[str, NDArray[np.int32]]) -> Entry:
    """A shard's rows of a fused table, then those that foreign places read."""
    layout, sources = table.layout, list[ir.TensorProtocol | Picked | Narrowed]()
    for item in layout.stretches:
        if table.first <= item.place < table.last:
            data = submodels.data_of(layout.fused.sources[item.table])
            rows = Picked(data, _rows(layout, item, maps.get(table.name)), item.last - item.first)
            sources.append(submodels.as_stored(layout.fused, rows))
    stored, dim = layout.fused.stored, layout.fused.dim
    dtype, width = file_dtype(stored), file_width(stored, dim)
    padding = [np.zeros((1, width), dtype.numpy())]
    if table.lowest:
        padding.append(
            narrow.lowest(stored, dim) if stored != submodels.dtype_of(layout.fused) else np.full((1, width), np.finfo(dtype.numpy()).min)
        )
    sources.append(ir.tensor(np.concatenate(padding), dtype=dtype))
    return Entry(table.name, tuple(sources))


def _rows(layout: TablePlaces, item: Stretch, places: NDArray[np.int32] | None) -> range | Callable[[], NDArray[np.int32]]:
    if item.table not in layout.by_heat:
        return range(item.first, item.last)
    assert places is not None
    start = layout.map_start(item.table)
    table_places = places[start : start + layout.sizes()[item.table]]
    return lambda: rows_at(table_places, item.place, item.place + item.last - item.first)
