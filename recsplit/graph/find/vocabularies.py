"""Vocabularies: which ids a model maps to rows by a list of keys, and in which columns of its inputs they come."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from recsplit.graph.find.columns import trace
from recsplit.graph.flow import Array


@dataclass(frozen=True)
class Vocabulary:
    """Numbers that mean something in these columns of graph input `source` (flattened behind the batch)."""

    source: str
    columns: tuple[int, ...]
    keys: Array


def vocabularies(model: ir.Model) -> list[Vocabulary]:
    """The keys of every LabelEncoder that reads columns of inputs as they come."""
    known: list[Vocabulary] = []
    for node in model.graph:
        if (node.domain, node.op_type) != ("ai.onnx.ml", "LabelEncoder") or node.inputs[0] is None:
            continue
        keys, columns = _keys(node), trace(node.inputs[0]) or []
        for source in dict.fromkeys(column.source for column in columns):
            read = tuple(column.column or 0 for column in columns if column.source is source)
            shifts = {column.shift for column in columns if column.source is source}
            if keys is not None and shifts == {0}:
                known.append(Vocabulary(source.name or "", read, keys))
    return known


def _keys(node: ir.Node) -> Array | None:
    if "keys_int64s" in node.attributes:
        return np.asarray(node.attributes["keys_int64s"].as_ints())
    if "keys_floats" in node.attributes:
        return np.asarray(node.attributes["keys_floats"].as_floats())
    if "keys_tensor" not in node.attributes:
        return None
    tensor = node.attributes["keys_tensor"].as_tensor()
    return None if tensor.dtype == ir.DataType.STRING else np.asarray(tensor.numpy())
