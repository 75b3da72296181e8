"""From a flat torch module to the IR: torch.export, bags kept whole, torch.onnx."""

import contextlib
import functools
import io
import logging
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.fx.experimental import _config as symbolic_config

from recsplit.errors import InputError, RecsplitError
from recsplit.graph.conditions import may_be_offsets
from recsplit.graph.source_tables import remember_readers
from recsplit.load import fastpath
from recsplit.load.arrays import Array
from recsplit.load.flat import Eager
from recsplit.load.fx import rewrite
from recsplit.load.normalize import drop_idle, normalize
from recsplit.load.simplify import simplify

OPSET = 20
DETAIL_LINES = 30
UNKNOWN = "replace that operator in forward by ones that ONNX has"
FUSED = "call torch.backends.mha.set_fastpath_enabled(False) before torch.export.export, or build from the factory"
#: An example with a batch of 1 must not make 1 the only batch.
BATCH_OF_ONE = functools.partial(symbolic_config.patch, backed_size_oblivious=True)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Exported:
    """A torch source as IR, with its example inputs by graph input name and the source itself to run; `notes`, `warnings` as in Loaded."""

    model: ir.Model
    example: Mapping[str, Array]
    run: Eager
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and log lines of torch and its relatives away from the user; errors still raise."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def export(module: torch.nn.Module, tensors: Sequence[torch.Tensor], shapes: Sequence[Mapping[int, Any]]) -> torch.export.ExportedProgram:
    """torch.export of forward(*tensors), with one {dimension: Dim} per tensor.

    Where an entry leaves dimension 0 out it is first taken at its word, for inputs [tables, batch], and then as one whose batch varies too.
    Raises RecsplitError with torch's own words as detail.
    """
    across = {n for n, entry in enumerate(shapes) if 0 not in entry}
    if across and all(tensors[n].shape[0] > 1 for n in across):  # one row would be broadcast to any batch
        with contextlib.suppress(Exception):  # torch's own kinds; the next way to trace it tells why
            # Sizes that are one in no example are compared as they are: then the sizes of all batches are known to be one.
            sizes_vary = all(tensor.shape[axis] > 1 for tensor, entry in zip(tensors, shapes, strict=True) for axis in entry)
            program = _traced(module, tensors, shapes, strict=False, batch_of_one=not sizes_vary)
            if not _fixed_batches(program, across):
                return program
    programs: list[torch.export.ExportedProgram] = []
    failures: list[Exception] = []
    # Plain tracing takes more Python. Dynamo takes asserts on values, keeps len(x) a size that varies, and explains itself better.
    for strict in (False, True):
        try:
            program = _traced(module, tensors, [{0: torch.export.Dim.AUTO, **entry} for entry in shapes], strict=strict)
        except InputError:
            raise
        except Exception as error:
            failures.append(error)
        else:
            if not _fixed_batches(program):
                return program
            programs.append(program)
    if programs:
        return programs[0]  # refused later, by the name of what is fixed
    plain, explained = failures
    raise RecsplitError(
        f"torch.export can't trace the module: {_first_line(explained)}",
        hint="usual causes: if or for on tensor values, .item(), numpy in forward, a batch written as a number; "
        "torch.export.export(module, example_inputs) shows the same",
        detail=f"{_shorten(explained)}\n\nand without dynamo: {_first_line(plain)}",
    ) from explained


def _traced(
    module: torch.nn.Module,
    tensors: Sequence[torch.Tensor],
    shapes: Sequence[Mapping[int, Any]],
    *,
    strict: bool,
    batch_of_one: bool = True,
) -> torch.export.ExportedProgram:
    may_be_one = BATCH_OF_ONE() if batch_of_one else contextlib.nullcontext()
    with quiet(), contextlib.redirect_stderr(io.StringIO()), torch.no_grad(), may_be_one, fastpath.untraced():
        return torch.export.export(module, tuple(tensors), dynamic_shapes=(tuple(map(dict, shapes)),), strict=strict)


def _fixed_batches(program: torch.export.ExportedProgram, across: Collection[int] = ()) -> bool:
    """Whether an output, or an input but those `across`, has a first dimension that doesn't vary; offsets may be [features, batch]."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = [name for n, name in enumerate(program.graph_signature.user_inputs) if n not in across]
    inputs = [values.get(name) for name in names if isinstance(name, str)]
    outputs = [values.get(name) for name in program.graph_signature.user_outputs if isinstance(name, str)]
    fixed_inputs = [item for item in inputs if isinstance(item, torch.Tensor) and _is_fixed(item) and not may_be_offsets(item.shape)]
    return bool(fixed_inputs) or any(isinstance(tensor, torch.Tensor) and _is_fixed(tensor) for tensor in outputs)


def _is_fixed(tensor: torch.Tensor) -> bool:
    return tensor.ndim > 0 and isinstance(tensor.shape[0], int)


def to_ir(
    program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], origin: str, *, prefix: str = ""
) -> ir.Model:
    """The program as an onnx_ir model in the form of the contract, with these input and output names.

    `prefix` is dropped from the names of weights. Changes the program.
    Raises InputError where a batch dimension is fixed or the program changes its own state, RecsplitError where an
    operator has no ONNX form.
    """
    check_program(program, inputs, outputs, prefix)
    rewrite(program)
    # Guards are source text that torch would execute on the way, stored ones of a .pt2 file too; the graph does without.
    program._guards_code = []
    try:
        with quiet(), torch.no_grad():
            exported = torch.onnx.export(program, dynamo=True, verbose=False, optimize=False, opset_version=OPSET)
    except Exception as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        raise RecsplitError(
            f"torch.onnx can't translate {origin}: {_first_line(root)}",
            hint=FUSED if re.search("_transformer_encoder_layer_fwd|_native_multi_head_attention", str(root)) else UNKNOWN,
            detail=_shorten(root),
        ) from error
    assert exported is not None
    model = exported.model
    for value in list(model.graph.initializers.values()):
        value.name = (value.name or "").removeprefix(prefix)
    drop_idle(model)
    remember_readers(model)
    with quiet():
        simplify(model)
    normalize(model, origin=origin, inputs=inputs, outputs=outputs)
    return model


def check_program(program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], prefix: str) -> None:
    """Refuse, by name, fixed batches and programs that write to their weights or inputs."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    given_by_name = {spec.arg.name: spec.target or "an input" for spec in signature.input_specs if isinstance(spec.arg, TensorArgument)}
    written = [spec.target or "an input" for spec in signature.output_specs if spec.kind is not OutputKind.USER_OUTPUT]
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable and node.args and getattr(node.args[0], "name", None) in given_by_name:
            written.append(given_by_name[node.args[0].name])
    _refuse_renorm(program, {name: target.removeprefix(prefix) for name, target in given_by_name.items()})
    if written:
        raise InputError(
            f"the model changes {written[0].removeprefix(prefix)!r} while it runs",
            hint="a served model writes to no weight, buffer or input: update a copy, and call .eval() before torch.export.export",
        )
    input_arguments = [
        spec.arg for spec in signature.input_specs if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)
    ]
    output_arguments = [spec.arg for spec in signature.output_specs if isinstance(spec.arg, TensorArgument)]
    first_sizes = [values[argument.name].shape[0] for argument in output_arguments if values[argument.name].ndim]
    batches = {str(size) for size in first_sizes if not isinstance(size, int)}
    for kind, names, arguments in (("input", inputs, input_arguments), ("output", outputs, output_arguments)):
        for name, argument in zip(names, arguments, strict=True):
            shape = values[argument.name].shape
            if len(shape) == 0:
                raise InputError(
                    f"{kind} {name!r} has no batch dimension", hint="the first dimension of each input and output is the batch"
                )
            is_across = kind == "input" and (may_be_offsets(shape) or any(str(size) in batches for size in shape[1:]))
            if isinstance(shape[0], int) and not is_across:
                raise InputError(
                    f"the batch dimension of {kind} {name!r} came out fixed at {shape[0]}",
                    hint="use x.shape[0] or -1 in forward where the batch is written as a number or len(x); for .pt2, export with "
                    "dynamic_shapes that give dimension 0 of every input a torch.export.Dim",
                )


def _refuse_renorm(program: torch.export.ExportedProgram, given_by_name: Mapping[str, str]) -> None:
    for node in program.graph.nodes:
        if "embedding_renorm" in str(node.target):
            source: Any = node.args[0]
            while source.op != "placeholder" and source.args:
                source = source.args[0]
            _, _, most, norm = node.args
            table = given_by_name.get(source.name, source.name)
            raise InputError(
                f"the model reads {table!r} with max_norm={most}: it changes its rows while they are read",
                hint=f"clip the table once, before it is exported: torch.renorm(table, {norm}, 0, {most}); and leave max_norm out",
            )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _shorten(error: BaseException) -> str:
    lines = f"{type(error).__name__}: {error}".splitlines()
    return "\n".join(lines[:DETAIL_LINES])
