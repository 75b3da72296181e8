""".pt2 files: programs saved by torch.export.save, read without running anything that is stored in them."""

import contextlib
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch._export.utils import _get_shape_env_from_gm
from torch.export.graph_signature import ConstantArgument, OutputKind
from torch.utils import _pytree as pytree

from recsplit.disk import archive
from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit.load.export import Exported, quiet, to_ir
from recsplit.load.flat import Eager
from recsplit.load.inputs import leaves, readable

#: Operators that a program may name: torch.ops.namespace.operator.overload, torch's on symbolic sizes, plain arithmetic. Names with two
#: underscores reach into Python; the only operators among them are those of `& | ^ << >>`.
TARGET = re.compile(
    r"torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.(Tensor|Scalar)|(?!.*__)("
    r"torch\.ops\.[a-z0-9_]+\.\w+(\.\w+)?|torch\.sym_\w+|torch\._sym_\w+|math\.\w+|_operator\."
    r"(add|sub|mul|floordiv|truediv|mod|neg|pos|pow|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|lshift|rshift|getitem|index))"
)
#: Sizes as torch writes them, for sympy to evaluate: numbers, names, arithmetic, and calls of capitalised functions.
SIZE = re.compile(r"(?!.*__)(\d+\.\d+|[A-Z]\w*\(|floor\(|ceiling\(|[A-Za-z]\w*(?!\w*\()|'\w+'|\d+|[\s+\-*/%(),<>=&|~])*", re.DOTALL)
#: Of members that somebody packed.
PACKED_BYTES = 1 << 26
AGAIN = "save it again: torch.export.save(torch.export.export(module, inputs, dynamic_shapes=...), 'model.pt2')"


def load(path: pathlib.Path) -> Exported:
    """The program of a .pt2 file in the form of the contract.

    Raises InputError where the file is no such program, could run code when read, or has a fixed batch.
    """
    check_archive(path)
    try:
        with quiet(), weights_only():
            program = torch.export.load(path)
    except Exception as error:
        pickled = re.search(r"GLOBAL (\S+)", str(error))
        if pickled:
            raise InputError(
                f"the example inputs of {path} hold a {pickled[1]}, which only unpickling could read",
                hint="export a module that takes plain tensors, or give the factory: package.module:factory",
            ) from error
        raise InputError(
            f"{path} can't be read by torch {torch.__version__}",
            hint=f"programs are tied to torch versions, and to the packages that register their operators; {AGAIN}",
            detail=str(error),
        ) from error
    return exported(program, str(path))


def exported(program: torch.export.ExportedProgram, origin: str) -> Exported:
    """A program in the form of the contract; it is used up. Raises InputError where it has no example inputs, or a fixed batch."""
    if program.example_inputs is None:
        raise InputError(f"{origin} has no example inputs", hint=AGAIN)
    forget_derived_ranges(program)
    caller = Caller(program)
    model = to_ir(program, caller.names, caller.output_names, origin)
    example = {name: tensor.detach().numpy() for name, tensor in zip(caller.names, caller.tensors, strict=True)}
    return Exported(model, example, Eager(caller, caller.names, caller.output_names, prefix="_module."))


def forget_derived_ranges(program: torch.export.ExportedProgram) -> None:
    """Drop the ranges of sizes that are expressions: batch + 1, as offsets with include_last_offset have.

    torch 2.13 stores them in the file, reads them back among those of the symbols, and then fails on them in its own
    decompositions ("expected sympy.Symbol"). The ranges of the symbols say all.
    """
    environment = _get_shape_env_from_gm(program.graph_module)
    if environment is not None:
        for size in [size for size in environment.var_to_range if not size.is_Symbol]:
            del environment.var_to_range[size]


class Caller(torch.nn.Module):
    """A program as forward(*tensors) -> tuple of tensors, under readable names."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        # Guards are stored as source text and would be executed.
        self._module = program.module(check_guards=False)
        # A batch of 1 is out of range wherever the example had more rows (torch's 0/1 specialisation), and runs all the same.
        self._module._forward_pre_hooks.clear()
        self._spec = program.call_spec.in_spec
        args, kwargs = program.example_inputs
        self._flat: list[Any] = pytree.tree_leaves((args, {key: kwargs[key] for key in self._spec.child(1).context}))
        self._at = [n for n, leaf in enumerate(self._flat) if isinstance(leaf, torch.Tensor)]
        self.tensors: list[torch.Tensor] = [self._flat[n] for n in self._at]
        self.names = self._input_names(program, args, kwargs)
        self.output_names = self._outputs(program)

    def _input_names(self, program: torch.export.ExportedProgram, args: Any, kwargs: Mapping[str, Any]) -> list[str]:
        """Named after forward's parameters where the program still knows them, else as the graph's own inputs."""
        signature = program.module_call_graph[0].signature
        parameters = (signature.forward_arg_names if signature is not None else None) or []
        if len(parameters) == len(args) + len(kwargs):
            tree = dict(zip(parameters, [*args, *(kwargs[key] for key in self._spec.child(1).context)], strict=True))
            paths = [path for path, leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]
            if len(paths) == len(self._at):
                return readable(paths, root="input")
        inputs = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
        return readable([(name,) for name in inputs[: len(self._at)]], root="input")

    def _outputs(self, program: torch.export.ExportedProgram) -> list[str]:
        specs = [spec for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
        kept = [n for n, spec in enumerate(specs) if not isinstance(spec.arg, ConstantArgument)]
        tree = pytree.tree_unflatten(list(range(len(specs))), program.call_spec.out_spec)
        paths = {index: path for path, index in leaves(tree)}
        self._kept = kept
        return readable([paths[n] for n in kept], root="output", used_names=self.names)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The program's tensors, flat; constants among its outputs are left out."""
        flat = list(self._flat)
        for n, tensor in zip(self._at, tensors, strict=True):
            flat[n] = tensor
        args, kwargs = pytree.tree_unflatten(flat, self._spec)
        results = pytree.tree_leaves(self._module(*args, **kwargs))
        return tuple(results[n] for n in self._kept)


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """torch.export.load falls back to a full unpickle where tensors alone can't be read; this forbids it."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def check_archive(path: pathlib.Path) -> None:
    """Refuse what is no exported program, and every part that torch would unpickle, compile or evaluate freely."""
    if not path.is_file():
        raise InputError(f"{path} is not a file", hint="check the path of the .pt2 file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a torch.export program, or is cut short", hint=AGAIN)
    with archive.opened(path, "is not a torch.export program, or is damaged", hint=AGAIN) as zipped:
        packed = sum(member.file_size for member in zipped.infolist() if member.compress_type != zipfile.ZIP_STORED)
    if packed > PACKED_BYTES:
        raise InputError(
            f"{path} has members that unpack to {size_text(packed)}, and at most {size_text(PACKED_BYTES)} are unpacked; torch packs none",
            hint=AGAIN,
        )
    try:
        reader = torch._C.PyTorchFileReader(str(path))  # the reader that torch.export.load uses: it must see the same members
        names = reader.get_all_records()
        if "archive_format" not in names or reader.get_record("archive_format") != b"pt2":
            kind = "TorchScript" if any(name.startswith("code/") or name == "constants.pkl" for name in names) else "pickle"
            message = f"{path} is a {kind} file, which recsplit does not open: such a file can run any code"
            raise InputError(message, hint=f"from the module, {AGAIN}")
        for name in names:
            unsafe = name.startswith(("data/aotinductor", "data/constants/custom_obj", "data/constants/opaque_obj"))
            if unsafe or name in ("data/weights/model.pt", "data/constants/model.pt"):
                raise InputError(f"{path} holds {name}: compiled code or a pickled object, which recsplit does not load", hint=AGAIN)
        if "models/model.json" not in names:
            raise InputError(f"{path} holds no program named 'model'", hint=AGAIN)
        check_program_text(json.loads(reader.get_record("models/model.json")), path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} is not a torch.export program, or is damaged", hint=AGAIN, detail=str(error)) from error


def check_program_text(tree: Any, path: pathlib.Path) -> None:
    """Refuse operators and sizes that aren't those of a tensor program: torch looks both up by evaluating text."""
    if isinstance(tree, dict):
        for key, pattern in (("target", TARGET), ("expr_str", SIZE)):
            text = tree.get(key)
            if isinstance(text, str) and not pattern.fullmatch(text):
                raise InputError(f"{path} names {text!r}, which is no operator or size of a tensor program", hint=AGAIN)
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            check_program_text(item, path)
