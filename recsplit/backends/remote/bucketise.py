"""Bags between a batch and one shard: the shard's own rows go out as CSR, pooled vectors come back as a partial tensor.

numpy only; imported by Triton's stub from beside model.py, and by tests.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]


def bucketise(places: NDArray[Any], offsets: NDArray[Any], first: int, last: int) -> tuple[Rows, Rows]:
    """The part of CSR bags that lies in places [first, last) (ElasticRec, Fig. 11): rows, place - first, and their offsets.

    `places` [n]; `offsets` [bags + 1], rising from 0 to n: bag b is places[offsets[b]:offsets[b + 1]]. Both results are INT32, [m]
    and [bags + 1]; a bag with no place in the range is empty, and the order within a bag is kept.
    """
    inside = (places >= first) & (places < last)
    before = np.zeros(len(places) + 1, np.int32)
    np.cumsum(inside, out=before[1:])
    rows = places[inside].astype(np.int32, copy=False) - np.int32(first)
    return rows, before[offsets]


def bag_offsets(batch: int, widths: tuple[int, ...]) -> NDArray[np.int64]:
    """Offsets [batch * vectors + 1] of the bags of a batch whose rows hold vectors of these widths, one after the other."""
    starts = np.cumsum((0, *widths[:-1]))
    offsets = np.arange(batch, dtype=np.int64)[:, None] * sum(widths) + starts
    return np.append(offsets.ravel(), batch * sum(widths))


def partial(pooled: NDArray[Any], batch: int, widths: tuple[int, ...], poolings: tuple[str, ...]) -> NDArray[Any]:
    """[batch, vectors * dim]: what a shard's sums [batch * vectors, dim] add to the boundary tensor; means divide by the whole width."""
    vectors = pooled.reshape(batch, len(widths), -1)
    if "mean" in poolings:
        divisors = [width if pooling == "mean" else 1 for width, pooling in zip(widths, poolings, strict=True)]
        vectors = vectors / np.array(divisors, vectors.dtype)[None, :, None]
    flat: NDArray[Any] = vectors.reshape(batch, -1)
    return flat


def nothing(bags: int, dim: int, dtype: NDArray[Any] | str | np.dtype[Any], poolings: tuple[str, ...]) -> NDArray[Any]:
    """[bags, dim]: what bags without a place in the shard pool to, zeros, and for max the lowest number."""
    pooled = np.zeros((bags, dim), dtype)
    if "max" in poolings:
        lowest = [pooling == "max" for pooling in poolings]
        pooled.reshape(-1, len(poolings), dim)[:, lowest] = -np.inf
    return pooled
