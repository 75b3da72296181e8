"""Which ids a client may send where they are hashed or computed before the lookup: found by asking the embedding model.

A traced column tells its own limit. For the others the model is asked, one row at a time, whether it marks an id
as unknown: doubling, then halving. This assumes that an input's valid ids are 0 .. limit - 1.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from recsplit.parts import Array, Run
from recsplit.plan import UNKNOWN_IDS, Lookup, Plan, Tensor
from recsplit.samples import NUMPY

#: The limit that stands for "any id": the largest number tried.
ANY = 2**31


def probe(plan: Plan, embedding: Run) -> tuple[Lookup, ...]:
    """The plan's lookups with the limits of computed ids filled in; unchanged where the plan marks no unknown ids."""
    if UNKNOWN_IDS not in {tensor.name for tensor in plan.embedding.outputs}:
        return plan.lookups
    unknown = {name for lookup in plan.lookups if lookup.limit is None for name in lookup.input.split(", ")}
    tensors = {tensor.name: tensor for tensor in plan.embedding.inputs}
    limits = {name: _limit(plan, tensors[name], embedding) for name in sorted(unknown) if name in tensors}
    return tuple(
        lookup
        if lookup.limit is not None
        else dataclasses.replace(lookup, limit=min((limits[name] for name in lookup.input.split(", ") if name in limits), default=None))
        for lookup in plan.lookups
    )


def _limit(plan: Plan, tensor: Tensor, embedding: Run) -> int:
    """The smallest id of one input that the model marks, all else being zero; ANY if none is."""
    largest = 2**24 if tensor.dtype in ("FP32", "FP16", "FP64") else ANY
    if not _accepts(plan, tensor, 0, embedding):
        return 1
    good, bad = 0, 1
    while bad < largest and _accepts(plan, tensor, bad, embedding):
        good, bad = bad, bad * 2
    if bad >= largest:
        return ANY
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _accepts(plan, tensor, middle, embedding) else (good, middle)
    return bad


def _accepts(plan: Plan, tensor: Tensor, value: int, embedding: Run) -> bool:
    feeds: Mapping[str, Array] = {item.name: _row(plan, item, value if item.name == tensor.name else 0) for item in plan.embedding.inputs}
    return bool(np.less(embedding(feeds)[UNKNOWN_IDS][:, 0], 0).all())


def _row(plan: Plan, tensor: Tensor, value: int) -> Array:
    """One row full of `value`; bags of one id each."""
    lengths = {bags.lengths: len(bags.features) for bags in plan.bags}
    slots = {name: len(bags.features) for bags in plan.bags for name in (bags.values, bags.weights) if name is not None}
    dims = [slots.get(tensor.name, 2) if size == -1 else size for size in tensor.dims]
    return np.full([1, *dims], 1 if tensor.name in lengths else value, dtype=NUMPY[tensor.dtype])
