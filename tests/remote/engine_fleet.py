"""The model of sharded.py, built by recsplit for its engine: the same ids, scores and shards, so that tests are for both kinds of front."""

from pathlib import Path

import numpy as np

from recsplit.partition import partition_file
from recsplit.plan.plan import Segment
from tests.build.onnx_models import build_of, onnx_file
from tests.remote import sharded

TEXT = (
    "(int64[N,4] ids) => (float[N,1] score) {"
    " some=Slice(ids,zero,three,one) last=Slice(ids,three,four,one) gathered=Gather(items,some) pooled=ReduceSum<keepdims=0>(gathered,one)"
    " alone=Gather(items,last) single=Reshape(alone,vector) row=Concat<axis=1>(pooled,single) score=MatMul(row,weights) }"
)


def write(folder: Path) -> Path:
    """The repository."""
    scalars = {name: np.array([value]) for name, value in {"zero": 0, "one": 1, "three": 3, "four": 4}.items()}
    arrays = {**scalars, "items": sharded.table(), "weights": sharded.weights(), "vector": np.array([-1, sharded.DIM])}
    layouts = tuple(
        partition_file.ShardLayout((Segment("items", first, last),), "own", 1, 1.0, sharded.BATCH)
        for first, last in zip(sharded.BOUNDS, sharded.BOUNDS[1:], strict=False)
    )
    partition = folder / "partition.json"
    partition.write_text(partition_file.to_json(partition_file.Partition(sharded.NAME, None, 100.0, "by hand", 1.0, "bytes", layouts)))
    built = build_of(
        onnx_file(folder, TEXT, arrays),
        folder / "models",
        name=sharded.NAME,
        max_batch_size=sharded.BATCH,
        partition=partition,
        embedding_runtime="native",
        search_s=0,
    )
    return built.repository
