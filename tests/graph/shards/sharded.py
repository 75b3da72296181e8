"""Small models cut into shards in memory, and run as the ensemble runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from recsplit.graph.cut import cut
from recsplit.graph.shards.models import ShardTable
from recsplit.graph.shards.places import TablePlaces, rows_at
from recsplit.graph.shards.shards import Sharded, shard
from recsplit.plan.plan import UNKNOWN_IDS, Segment
from tests.graph.small import Array, Feeds, loaded, proto, session

#: The rows of each table by heat.
Orders = Mapping[str, NDArray[np.int32]]


@dataclass(frozen=True)
class InShards:
    """A sharded model and its parts as functions."""

    sharded: Sharded
    orders: Orders | None

    @cached_property
    def parts(self) -> list[Any]:
        """Sessions in the order of the ensemble's steps."""
        order = None if self.orders is None else self.orders.__getitem__
        embedding = self.sharded.embedding
        for name, layout in self.sharded.maps.items():
            joined_maps = np.concatenate([make() for make, _ in layout.maps(order)])
            embedding.graph.initializers[name].const_value = ir.tensor(joined_maps, name=name)
        for part in self.sharded.shards:
            for table in part.tables:
                part.model.graph.initializers[table.name].const_value = ir.tensor(self.rows(table), name=table.name)
        return [session(model) for model in (embedding, *(part.model for part in self.sharded.shards), self.sharded.dense)]

    def rows(self, table: ShardTable) -> Array:
        """A shard's rows of a fused table, and those that foreign places read."""
        layout, pieces = table.layout, []
        for item in layout.stretches:
            if table.first <= item.place < table.last:
                value = layout.fused.sources[item.table].const_value
                assert value is not None
                pieces.append(value.numpy()[self._picked(layout, item.table, item.place, item.first, item.last)])
        dtype = layout.fused.sources[0].const_value.dtype.numpy()  # type: ignore[union-attr]
        padding = [np.zeros((1, layout.fused.dim), dtype)]
        if table.lowest:
            padding.append(np.full((1, layout.fused.dim), np.finfo(dtype).min, dtype))
        return np.concatenate([*pieces, *padding])

    def _picked(self, layout: TablePlaces, table: int, place: int, first: int, last: int) -> Any:
        if self.orders is None or table not in layout.by_heat:
            return slice(first, last)
        by_heat = self.orders[layout.names()[table]]
        picked = rows_at(layout.map_of(table, self.orders.__getitem__), place, place + last - first)
        np.testing.assert_array_equal(picked, np.sort(by_heat[first:last]))
        return picked

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        known, answers = dict(feeds), dict[str, Array]()
        for part in self.parts:
            answers = part(known)
            known.update(answers)
        return {**answers, **{name: data for name, data in known.items() if name == UNKNOWN_IDS}}


def in_shards(
    text: str, arrays: Feeds, shards: Sequence[Sequence[Segment]], orders: Orders | None = None, *, opset: int = 17, **settings: Any
) -> InShards:
    """Cut the model of `text` into shards of these segments; with `orders`, by heat."""
    cut_model = cut(loaded(proto(text, arrays, opset=opset)), bag_form="padded", adding_up=True, **settings)
    return InShards(shard(cut_model, shards, by_heat=orders is not None), orders)
