"""The shapes that TensorRT prepares for: an optimization profile of each input, as values and in its own spelling. Pure."""

from collections.abc import Mapping

from recsplit.errors import InputError
from recsplit.plan.plan import Submodel

# Shapes at least, usually and at most, batch included.
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def shapes(model: Submodel, max_batch_size: int) -> dict[str, Shapes]:
    """TensorRT's optimization profile of each input: batch 1 to `max_batch_size`, best at the largest, where time is spent.

    Raises InputError where an input varies in more than the batch: TensorRT needs bounds, and the model tells none.
    """
    if ragged := [tensor.name for tensor in model.inputs if min(tensor.dims, default=1) < 0]:
        raise InputError(
            f"TensorRT needs bounds for every dimension, and the inputs {ragged} of {model.name!r} vary in more than the batch",
            hint="choose the dense runtime onnxruntime, or give the model fixed sizes",
        )
    return {tensor.name: ((1, *tensor.dims), (max_batch_size, *tensor.dims), (max_batch_size, *tensor.dims)) for tensor in model.inputs}


def texts(profile: Mapping[str, Shapes]) -> tuple[str, str, str]:
    """Least, usual and largest shapes as trtexec and ONNX Runtime spell them: "dense:1x13,pooled:1x26x16".

    Raises InputError where a name holds one of the separators, which neither can escape.
    """
    if awkward := [name for name in profile if "," in name or ":" in name]:
        raise InputError(
            f"TensorRT's shape options can't name the inputs {awkward}: ',' and ':' are separators there",
            hint="rename them in the model, or choose the dense runtime onnxruntime",
        )
    least, usual, most = (",".join(f"{name}:{'x'.join(map(str, three[at]))}" for name, three in profile.items()) for at in range(3))
    return least, usual, most
