"""Weights of a module from a safetensors file: mapped, never copied.

A safetensors file is an 8-byte little-endian header length, a JSON header, and the tensors' bytes.
"""

import json
import pathlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import safetensors
import torch

from recsplit.errors import InputError

SHOWN = 10
#: What torch.compile puts before the names of a module, also of one within another.
COMPILED = "_orig_mod."
#: What wrappers put before all names: DataParallel, torch.compile, and the module that a trainer keeps its model in.
PREFIXES = ("module.", COMPILED, "model.")


@dataclass(frozen=True)
class Span:
    """Where a tensor's bytes lie in the file: offset from the file's start and length, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class Weights:
    """The tensors of one safetensors file, mapped, and where each of them lies, by state_dict name."""

    path: pathlib.Path
    tensors: Mapping[str, torch.Tensor]
    spans: Mapping[str, Span]


def open_weights(path: pathlib.Path) -> Weights:
    """Map the file. Raises InputError where it is missing, broken or not safetensors."""
    if not path.is_file():
        raise InputError(f"the weights file {path} does not exist", hint="--weights takes one .safetensors file")
    if path.suffix.lower() != ".safetensors":
        raise InputError(
            f"{path} is not a .safetensors file, and recsplit opens no pickled checkpoint: it can run any code, and can't be mapped",
            hint="convert it once: safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'model.safetensors')",
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
        with path.open("rb") as raw:
            header = int.from_bytes(raw.read(8), "little")
            entries = json.loads(raw.read(header))
    except Exception as error:
        message = f"{path} is not a safetensors file, or is cut short"
        raise InputError(message, hint="copy or convert it again", detail=str(error)) from error
    spans = {}
    for name in tensors:
        begin, end = entries[name]["data_offsets"]
        spans[name] = Span(8 + header + begin, end - begin)
    return Weights(path, tensors, spans)


def without_prefix(module: torch.nn.Module, weights: Weights) -> tuple[Weights, tuple[str, ...]]:
    """The weights under the names of `module`, and a note, where only what a wrapper puts before names is too much; else as they are."""
    if _fit(module, weights.tensors):
        return weights, ()
    for names in _renamings(weights.tensors):
        if len(set(names.values())) == len(names) and _fit(module, names.values()):
            renamed = Weights(
                weights.path,
                {names[name]: tensor for name, tensor in weights.tensors.items()},
                {names[name]: span for name, span in weights.spans.items()},
            )
            old, new = next((old, new) for old, new in names.items() if old != new)
            return renamed, (f"Note: {weights.path} calls {old!r} what the module calls {new!r}, and the others likewise.",)
    return weights, ()


def _fit(module: torch.nn.Module, names: Collection[str]) -> bool:
    """Whether each tensor of the module has one of these names, and each name is one of the module's."""
    module_tensors = module.state_dict(keep_vars=True)
    filled = {id(module_tensors[name]) for name in names if name in module_tensors}
    return all(name in module_tensors for name in names) and all(id(tensor) in filled for tensor in module_tensors.values())


def _renamings(names: Collection[str]) -> Iterator[dict[str, str]]:
    """The names without what DataParallel, torch.compile and trainers put before all of them, one more at a time, and within them."""
    renamed = {name: name for name in names}
    while names:
        yield {name: new.replace(COMPILED, "") for name, new in renamed.items()}
        prefix = next((prefix for prefix in PREFIXES if all(new.startswith(prefix) for new in renamed.values())), None)
        if prefix is None:
            return
        renamed = {name: new.removeprefix(prefix) for name, new in renamed.items()}
        yield renamed


def assign(module: torch.nn.Module, weights: Weights) -> None:
    """Put the file's tensors in place of the module's own, in place; tied parameters stay tied.

    Raises InputError that lists names which are missing, unexpected, or of another shape or dtype, and those that
    would stay on the meta device.
    """
    module_tensors = module.state_dict(keep_vars=True)
    aliases: dict[int, list[str]] = {}
    for name, tensor in module_tensors.items():
        aliases.setdefault(id(tensor), []).append(name)
    sources_by_name = {
        name: next((alias for alias in aliases[id(tensor)] if alias in weights.tensors), None) for name, tensor in module_tensors.items()
    }
    problems = [f"{name} is missing in the file" for name, name_in_file in sources_by_name.items() if name_in_file is None]
    problems += [f"{name} is in the file and not in the module" for name in weights.tensors if name not in module_tensors]
    for name in module_tensors.keys() & weights.tensors.keys():
        inside, outside = module_tensors[name], weights.tensors[name]
        if inside.shape != outside.shape:
            problems.append(f"{name} is {list(outside.shape)} in the file and {list(inside.shape)} in the module")
        elif inside.dtype != outside.dtype:
            problems.append(f"{name} is {outside.dtype} in the file and {inside.dtype} in the module")
    if problems:
        problems.sort()
        others = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise InputError(
            f"{weights.path} does not fit the module: {problems[0]}{others}",
            hint="names, shapes and dtypes are those of module.state_dict()",
            detail="\n".join([*problems[:SHOWN], *more]),
        )
    parameters_by_source: dict[str, torch.Tensor] = {}
    for name, source in sources_by_name.items():
        assert source is not None
        parent, _, last = name.rpartition(".")
        owner = module.get_submodule(parent)
        tensor = weights.tensors[source]
        if last in owner._parameters:
            parameters_by_source[source] = parameters_by_source.get(source, torch.nn.Parameter(tensor, requires_grad=False))
            owner._parameters[last] = parameters_by_source[source]  # type: ignore[assignment]
        else:
            owner._buffers[last] = tensor


def refuse_meta(module: torch.nn.Module, *, weighted: bool) -> None:
    """Raise InputError where a tensor of the module has no data."""
    empty = [name for name, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    for prefix, part in module.named_modules():
        plain = [name for name, value in vars(part).items() if isinstance(value, torch.Tensor) and value.is_meta]
        empty += [f"{prefix}.{name}".lstrip(".") for name in plain]
    if not empty:
        return
    if not weighted:
        others = f", and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise InputError(f"the factory's module is on the meta device: {empty[0]}{others}", hint="add --weights x.safetensors")
    raise InputError(
        f"{', '.join(empty[:SHOWN])} is on the meta device and not in the module's state_dict, so no file can fill it",
        hint="make it in the factory on the CPU, or register it with register_buffer(..., persistent=True) and save it",
    )


def refer(model: ir.Model, weights: Weights) -> None:
    """Make each initializer that is a tensor of the file, as it lies there, an ExternalTensor that points into the file."""
    mapped = {tensor.data_ptr(): name for name, tensor in weights.tensors.items() if tensor.numel()}
    path = weights.path.resolve()
    for value in model.graph.initializers.values():
        raw = getattr(value.const_value, "raw", None)
        if not isinstance(raw, torch.Tensor) or raw.data_ptr() not in mapped:
            continue
        source = mapped[raw.data_ptr()]
        original = weights.tensors[source]
        if raw.shape == original.shape and raw.dtype == original.dtype and raw.is_contiguous():
            assert value.const_value is not None
            value.const_value = ir.ExternalTensor(
                path,  # without a base_dir: onnx_ir takes no hard links from a folder
                weights.spans[source].offset,
                weights.spans[source].length,
                value.const_value.dtype,
                shape=ir.Shape(original.shape),
                name=value.name or source,
            )
