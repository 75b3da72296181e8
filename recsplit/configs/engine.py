"""Triton's config as far as recsplit's engine reads it, as plain values."""

from typing import Any

from recsplit.plan.plan import Tensor


def engine_config(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], max_batch_size: int) -> dict[str, Any]:
    """Triton's config as far as the engine reads it, but for the parameters, one of which makes it refuse marked rows."""
    return {
        "max_batch_size": max_batch_size,
        "input": [_tensor(tensor) for tensor in inputs],
        "output": [_tensor(tensor) for tensor in outputs],
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    dims = {"dims": list(tensor.dims)} if tensor.dims else {"dims": [1], "reshape": {"shape": []}}
    return {"name": tensor.name, "data_type": f"TYPE_{tensor.dtype}", **dims}
