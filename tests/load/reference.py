"""The contract's own operators for onnx's reference evaluator, by torch.nn.functional.embedding_bag."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from recsplit.load.arrays import Array


class EmbeddingBag(OpRun):
    """recsplit::EmbeddingBag."""

    op_domain = "recsplit"

    def _run(
        self,
        weight: Array,
        indices: Array,
        offsets: Array | None = None,
        scale: Array | None = None,
        *,
        mode: str,
        padding_idx: int,
        include_last_offset: int,
    ) -> tuple[Array]:
        pooled = torch.nn.functional.embedding_bag(
            torch.tensor(indices),
            torch.tensor(weight),
            None if offsets is None else torch.tensor(offsets),
            mode=mode,
            per_sample_weights=None if scale is None else torch.tensor(scale),
            include_last_offset=bool(include_last_offset),
            padding_idx=None if padding_idx < 0 else padding_idx,
        )
        return (pooled.numpy(),)


class JaggedBags(OpRun):
    """recsplit::JaggedBags."""

    op_domain = "recsplit"

    def _run(
        self, values: Array, lengths: Array, scale: Array | None, *tables: Array, features: Any, feature_table: Any, pooling: Any
    ) -> tuple[Array]:
        bags = lengths.reshape(len(features), -1)
        pieces, start = [], 0
        for feature, table in enumerate(feature_table):
            end = start + int(bags[feature].sum())
            pieces.append(
                torch.nn.functional.embedding_bag(
                    torch.tensor(values[start:end]),
                    torch.tensor(tables[table]),
                    torch.from_numpy(np.concatenate([[0], np.cumsum(bags[feature])])),
                    mode=pooling[feature],
                    per_sample_weights=None if scale is None else torch.tensor(scale[start:end]),
                    include_last_offset=True,
                )
            )
            start = end
        return (torch.cat(pieces, dim=1).numpy(),)


def evaluate(model: ir.Model, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The model's outputs by name."""
    inline = model.clone()
    ir.external_data.load_to_model(inline)
    evaluator = ReferenceEvaluator(ir.to_proto(inline), new_ops=[EmbeddingBag, JaggedBags])
    outputs = [value.name or "" for value in model.graph.outputs]
    return dict(zip(outputs, evaluator.run(outputs, dict(inputs)), strict=True))
