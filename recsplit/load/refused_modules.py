"""Modules that can't be served as they are, refused with what they are and what to do, before torch.export fails on them."""

import torch

from recsplit.errors import InputError

#: Where quantized modules live: torch's own in both of its namespaces, and a package that replaces layers by its own.
QUANTIZED = (
    *("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized", "torch.nn.intrinsic.quantized"),
    "bitsandbytes.nn",
)
#: Packages whose tensors pack several numbers into one, or keep scales beside them.
PACKING = ("torchao", "bitsandbytes")


def refuse_modules(module: torch.nn.Module) -> None:
    """Raise InputError for a table with max_norm, a quantized module, parameter or buffer, and a nested one."""
    for name, part in module.named_modules():
        kind = type(part)
        if isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag) and part.max_norm is not None:
            raise InputError(
                f"{name or 'the module'} has max_norm={part.max_norm}: it changes its rows while they are read",
                hint=f"clip the table once in the factory: e.weight.data = torch.renorm(e.weight.data, {part.norm_type}, 0, e.max_norm); "
                "e.max_norm = None",
            )
        if kind.__module__.startswith(QUANTIZED):
            again = "; nn.EmbeddingBag.from_pretrained(e.weight().dequantize()) is one again" if "Embedding" in kind.__name__ else ""
            raise InputError(
                f"{name or 'the module'} is a quantized {kind.__name__} ({kind.__module__}), whose packed weights have no form in ONNX",
                hint=f"give the factory the module as it was before, an nn.{kind.__name__} with float weights{again}",
            )
    for name, tensor in _tensors(module):
        if tensor.layout == torch.strided or tensor.is_nested:
            refuse_layout(name, tensor)


def refuse_sparse(module: torch.nn.Module) -> None:
    """Raise InputError for a sparse tensor: why a module that holds one can't be exported. Where forward doesn't read it, it can."""
    for name, tensor in _tensors(module):
        refuse_layout(name, tensor)


def _tensors(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for prefix, part in module.named_modules():
        tensors += [(f"{prefix}.{name}".lstrip("."), value) for name, value in vars(part).items() if isinstance(value, torch.Tensor)]
    return tensors


def refuse_layout(what: str, tensor: torch.Tensor) -> None:
    """Raise InputError for a tensor, called `what`, that is sparse, nested, quantized or of a class that packs its numbers."""
    if tensor.is_quantized:
        raise InputError(f"{what} is a quantized tensor ({tensor.dtype})", hint="give its numbers as they are: tensor.dequantize()")
    if tensor.is_nested:
        raise InputError(
            f"{what} is a nested tensor, which ONNX and Triton have no form for",
            hint="give it padded, torch.nested.to_padded_tensor(tensor, 0), or as values and offsets of an nn.EmbeddingBag",
        )
    if tensor.layout != torch.strided:
        raise InputError(
            f"{what} is a sparse tensor ({tensor.layout}), which ONNX and Triton have no form for",
            hint="give it dense, tensor.to_dense(), or as ids, and per_sample_weights, of an nn.EmbeddingBag",
        )
    if type(tensor).__module__.partition(".")[0] in PACKING:
        raise InputError(
            f"{what} is a {type(tensor).__module__}.{type(tensor).__qualname__}, which packs its numbers in a way of its own",
            hint="build the module before quantize_, or whatever replaced its tensors, is called",
        )
