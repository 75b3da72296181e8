"""Both of torch's exporters, in process and quiet, and the comparison of what they wrote with torch itself."""

import functools
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim

from recsplit.graph.loops import Collapsed, collapse_loops
from recsplit.load.export import quiet
from tests.load.reference import evaluate

MODES = ("sum", "mean", "max")
ROWS, DIM = 20, 4
LAST = ROWS - 1

#: (ids, offsets) with empty bags at every place, one id, ids that come twice, the last row, no ids at all.
RAGGED = tuple(
    (torch.tensor(ids, dtype=torch.long), torch.tensor(offsets))
    for ids, offsets in (
        ([1, 2, 3, 4, 5, 6, 7], [0, 2, 5]),
        ([5, 5, LAST, 0, 3], [0, 0, 2, 2, 2, 5, 5]),
        ([LAST], [0]),
        ([7, 7, 7], [0, 3]),
        ([], [0, 0]),
        ([0, LAST, 7, 0], [0, 1, 2, 3]),
    )
)
WITH_ENDS = tuple((ids, torch.cat([offsets, torch.tensor([len(ids)])])) for ids, offsets in RAGGED)
RECTANGLES = tuple(torch.randint(0, ROWS, (batch, 3), generator=torch.Generator().manual_seed(batch)) for batch in (5, 1, 2, 17))


def bag(mode: str = "sum", **settings: Any) -> nn.EmbeddingBag:
    """An nn.EmbeddingBag without zeros: its default initialization sets the padding row to zero, which hides mistakes."""
    embedding_bag = nn.EmbeddingBag(ROWS, DIM, mode=mode, **settings)
    nn.init.normal_(embedding_bag.weight)
    return embedding_bag


class Answer(nn.Module):
    """A module whose forward is a function of its bags and of the inputs."""

    def __init__(self, answer: Callable[..., Any], *bags: nn.Module) -> None:
        super().__init__()
        self.bags = nn.ModuleList(bags)
        self.answer = answer

    def forward(self, *inputs: Tensor) -> Any:
        return self.answer(self.bags, *inputs)


def each(bags: Iterable[Any], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Every bag's answer to the same inputs."""
    return tuple(one(*inputs) for one in bags)


def legacy(
    module: nn.Module, args: tuple[Any, ...], *, opset: int = 17, axes: Mapping[str, Any] | None = None, **settings: Any
) -> ir.Model:
    """torch.onnx.export(dynamo=False); inputs x0, x1, ...; without `axes` the first dimension of each varies."""
    names = [f"x{number}" for number in range(len(args))]
    dynamic = {name: {0: f"batch_{name}"} for name in names} if axes is None else dict(axes)
    written = io.BytesIO()
    with quiet():
        export: Any = torch.onnx.export  # its annotations forget that dynamo=False writes to file objects too
        export(module.eval(), args, written, dynamo=False, opset_version=opset, input_names=names, dynamic_axes=dynamic)
    return ir.from_proto(onnx.load_from_string(written.getvalue()))


def dynamo(module: nn.Module, args: tuple[Any, ...], *, opset: int = 20, shapes: Any = "first") -> ir.Model:
    """torch.onnx.export(dynamo=True), optimized as it is by default; without `shapes` the first dimension of each input varies."""
    names = [f"x{number}" for number in range(len(args))]
    dynamic = tuple({0: Dim.AUTO} for _ in args) if shapes == "first" else shapes
    if isinstance(module, Answer) and shapes == "first":
        dynamic = (dynamic,)  # its forward takes *inputs, which is one argument
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(), args, dynamo=True, verbose=False, opset_version=opset, input_names=names, dynamic_shapes=dynamic
        )
    assert program is not None
    # As a file would have it: the exporter's own objects know more than what they write.
    return ir.from_proto(ir.to_proto(program.model))


EXPORTERS = {"legacy": legacy, "dynamo": dynamo}


@functools.cache
def bags_of_every_mode(exporter: str, include_last_offset: bool = False) -> tuple[onnx.ModelProto, nn.Module]:
    """Bags over (ids, offsets), exported once; take a model of it by ir.from_proto."""
    module = Answer(each, *(bag(mode, include_last_offset=include_last_offset) for mode in MODES))
    return ir.to_proto(EXPORTERS[exporter](module, (WITH_ENDS if include_last_offset else RAGGED)[0])), module


def collapsed(model: ir.Model) -> list[ir.Node]:
    """Collapse every Loop of the model; the nodes that came of it. Nothing but bags may be left of the Loops."""
    assert all(record == Collapsed(record.name, True, "") for record in collapse_loops(model))
    bags = bag_nodes(model)
    left = {node.op_type for node in model.graph.all_nodes()}
    assert not left & {"Loop", "If", "SequenceEmpty", "SequenceInsert", "ConcatFromSequence"}
    onnx.checker.check_model(ir.to_proto(model))
    return bags


def bag_nodes(model: ir.Model) -> list[ir.Node]:
    """The model's recsplit::EmbeddingBag nodes."""
    return [node for node in model.graph if (node.domain, node.op_type) == ("recsplit", "EmbeddingBag")]


def settings_of(bag: ir.Node) -> tuple[str, int, int]:
    """(mode, padding_idx, include_last_offset)."""
    return bag.attributes["mode"].as_string(), bag.attributes["padding_idx"].as_int(), bag.attributes["include_last_offset"].as_int()


def inputs_of(bag: ir.Node) -> list[str | None]:
    """Names of what a bag reads besides its table: ids, offsets, weights."""
    return [None if value is None else value.name for value in bag.inputs[1:]]


def assert_answers_as_torch(model: ir.Model, module: nn.Module, *requests: tuple[Tensor, ...], tolerance: float = 1e-5) -> None:
    """The model, by the reference evaluator, answers as the module does."""
    for request in requests:
        with torch.no_grad():
            answer = module(*request)
        feeds = dict(zip((value.name or "" for value in model.graph.inputs), (item.numpy() for item in request), strict=True))
        answers = answer if isinstance(answer, tuple) else (answer,)
        for model_answer, torch_answer in zip(evaluate(model, feeds).values(), (item.numpy() for item in answers), strict=True):
            assert (model_answer.shape, model_answer.dtype) == (torch_answer.shape, torch_answer.dtype)
            np.testing.assert_allclose(model_answer.astype(np.float64), torch_answer.astype(np.float64), rtol=tolerance, atol=tolerance)
