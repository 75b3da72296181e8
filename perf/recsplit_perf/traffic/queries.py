"""Queries made ready before the clock starts: a pool of HTTP requests, as bytes, with the workload's sizes and id skew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from recsplit.capacity import sizes
from recsplit.capacity.workload import Workload
from recsplit.client.query import split
from recsplit.plan.plan import Plan, Tensor
from recsplit.proof import samples
from recsplit_perf.traffic import connection

#: Distinct queries in a pool, where they fit.
DISTINCT = 1000
#: What a pool may take in memory.
POOL_BYTES = 128 << 20
#: Sizes drawn to choose those of the pool from.
_DRAWN = 100_000
_PROBE_ROWS = 16


@dataclass(frozen=True)
class Ready:
    """A query of `rows` rows, as the HTTP requests of its sub-queries."""

    rows: int
    parts: tuple[bytes, ...]


def pool(plan: Plan, workload: Workload, rng: np.random.Generator) -> list[Ready]:
    """Distinct queries whose sizes are evenly spaced quantiles of the size law, so that a random one has the law's size.

    As many as DISTINCT, or as fit into POOL_BYTES. Ids follow the workload's law; queries of more rows than max_batch_size
    are split as recsplit.client does it. All rows are drawn together, so that ragged ones share a shape.
    """
    drawn = np.sort(sizes.draw(workload.sizes, _DRAWN, rng))
    draw = samples.by_law(workload.ids, rng)
    row_bytes = sum(array.nbytes for array in samples.rows(plan, _PROBE_ROWS, rng, draw=draw).values()) / _PROBE_ROWS
    count = int(np.clip(POOL_BYTES / (row_bytes * drawn.mean()), 1, DISTINCT))
    rows = drawn[((np.arange(count) + 0.5) / count * _DRAWN).astype(int)]
    inputs = samples.rows(plan, int(rows.sum()), rng, draw=draw)
    ends = np.cumsum(rows)
    return [
        ready(plan, {name: array[end - size : end] for name, array in inputs.items()})
        for end, size in zip(ends.tolist(), rows.tolist(), strict=True)
    ]


def ready(plan: Plan, inputs: Mapping[str, NDArray[Any]]) -> Ready:
    """One query with these inputs, first dimension = rows."""
    rows = len(next(iter(inputs.values())))
    return Ready(rows, tuple(connection.request(plan.name, plan.inputs, part.tensors) for part in split(inputs, plan.max_batch_size)))


def request(model: str, tensors: Sequence[Tensor], inputs: Mapping[str, NDArray[Any]]) -> bytes:
    """A ModelInferRequest with those of `inputs` that `model` takes, serialised once and sent many times: building it anew takes longer
    than sending it."""
    message = service_pb2.ModelInferRequest(model_name=model)
    for tensor in tensors:
        array = inputs[tensor.name]
        shape = array.shape if array.ndim > 1 else (len(array), 1)  # one value a row is served as [batch, 1]
        message.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=shape)
        message.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
    return bytes(message.SerializeToString())
