"""torch's transformer layers, traced as the layers they are: without the fused operators and shortcuts that ONNX lacks."""

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.modules import transformer

_ROUNDING = 1e-3  # of half precision; places that are zero on one side only differ by more


def is_used(module: torch.nn.Module) -> bool:
    """Whether the module has layers that may take the fast path."""
    kinds = (torch.nn.MultiheadAttention, torch.nn.TransformerEncoderLayer, torch.nn.TransformerEncoder)
    return any(isinstance(part, kinds) for part in module.modules())


def agree(layers: torch.Tensor, fast: torch.Tensor) -> bool:
    """Whether answers of the layers and of the fast path, of any shape, are the same up to rounding; NaN on either side is no answer."""
    if layers.shape != fast.shape or not layers.is_floating_point():
        return torch.equal(layers, fast)
    answered = torch.isfinite(layers) & torch.isfinite(fast)
    scale = float(layers[answered].abs().max()) if bool(answered.any()) else 0.0
    return torch.allclose(layers[answered], fast[answered], rtol=_ROUNDING, atol=_ROUNDING * scale)


@contextlib.contextmanager
def off() -> Iterator[None]:
    """While this lasts, the layers themselves run, not the fused operators. The switch is the process's own."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """As `off`, and a mask is taken as it is: whether it is the causal one would be a branch on its values, which can't be traced."""
    detect = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = _as_declared
    try:
        with off():
            yield
    finally:
        transformer._detect_is_causal_mask = detect


def _as_declared(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:  # noqa: ARG001 -- torch's own
    return is_causal is True
