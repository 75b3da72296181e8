"""Bags that torch's exporters turned into loops become one node again, and answer as torch does."""

from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from tests.graph.exports import (
    DIM,
    EXPORTERS,
    LAST,
    MODES,
    RAGGED,
    RECTANGLES,
    ROWS,
    WITH_ENDS,
    Answer,
    assert_answers_as_torch,
    bag,
    bags_of_every_mode,
    collapsed,
    dynamo,
    each,
    inputs_of,
    legacy,
    settings_of,
)

both = pytest.mark.parametrize("exporter", EXPORTERS)
WEIGHTS = torch.rand(1000, generator=torch.Generator().manual_seed(0)) - 0.3


@both
@pytest.mark.parametrize("with_ends", [False, True])
def test_bags_told_by_offsets(exporter: str, with_ends: bool) -> None:
    proto, module = bags_of_every_mode(exporter, with_ends)
    model = ir.from_proto(proto)
    bags = collapsed(model)
    assert [settings_of(node) for node in bags] == [(mode, -1, int(with_ends)) for mode in MODES]
    assert all(inputs_of(node) == ["x0", "x1"] for node in bags)
    assert_answers_as_torch(model, module, *(WITH_ENDS if with_ends else RAGGED))


@both
def test_bags_of_one_length_are_rows_again(exporter: str) -> None:
    module = Answer(each, *(bag(mode) for mode in MODES))
    model = EXPORTERS[exporter](module, RECTANGLES[:1])
    bags = collapsed(model)
    assert [settings_of(node) for node in bags] == [(mode, -1, 0) for mode in MODES]
    assert all(inputs_of(node) == ["x0"] for node in bags)
    assert_answers_as_torch(model, module, *((ids,) for ids in RECTANGLES))


@both
def test_bags_of_a_length_that_varies(exporter: str) -> None:
    module = bag("mean")
    varying: dict[str, Any] = (
        {"axes": {"x0": {0: "batch", 1: "length"}}} if exporter == "legacy" else {"shapes": ({0: Dim.AUTO, 1: Dim.AUTO},)}
    )
    model = EXPORTERS[exporter](module, RECTANGLES[:1], **varying)
    assert [inputs_of(node) for node in collapsed(model)] == [["x0"]]
    assert_answers_as_torch(model, module, (RECTANGLES[1],), (torch.randint(0, ROWS, (4, 9)),))


def test_bags_that_leave_out_a_padding_id() -> None:
    """Of the new exporter only: the old one refuses padding_idx."""
    padded = [(mode, padding_idx) for mode, padding_idx in zip(MODES, (0, 7, -1), strict=True)]

    def answer(bags: Any, ids: Tensor, offsets: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        ends = torch.cat([offsets, torch.full((1,), ids.shape[0])])
        return each(bags[:3], ids, offsets) + each(bags[3:], ids, ends) + each(bags[:3], rows)

    ended = (bag(mode, padding_idx=padding_idx, include_last_offset=True) for mode, padding_idx in padded)
    module = Answer(answer, *(bag(mode, padding_idx=padding_idx) for mode, padding_idx in padded), *ended)
    requests = [
        (*ragged, rows)
        for ragged, rows in zip(RAGGED, (*RECTANGLES, torch.full((2, 3), LAST), torch.zeros((1, 3), dtype=torch.long)), strict=True)
    ]
    model = dynamo(module, requests[0])
    bags = collapsed(model)
    assert [settings_of(node) for node in bags] == [(mode, padding_idx % ROWS, last) for last in (0, 1, 0) for mode, padding_idx in padded]
    assert all(inputs_of(node) == ["x2"] for node in bags[6:])
    assert_answers_as_torch(model, module, *requests)


@both
def test_weighted_bags(exporter: str) -> None:
    def answer(
        bags: Any, ids: Tensor, offsets: Tensor, weights: Tensor, rows: Tensor, row_weights: Tensor, ends: Tensor
    ) -> tuple[Tensor, ...]:
        plain, ended, *padded = bags
        of_rows = plain(rows, per_sample_weights=row_weights)
        return of_rows, plain(ids, offsets, weights), ended(ids, ends, weights), *(one(ids, offsets, weights) for one in padded)

    padded = [bag(padding_idx=7)] if exporter == "dynamo" else []
    module = Answer(answer, bag(), bag(include_last_offset=True), *padded)
    requests = [
        (ids, offsets, WEIGHTS[: len(ids)], rows, WEIGHTS[-rows.numel() :].reshape(rows.shape), ends)
        for (ids, offsets), (_, ends), rows in zip(RAGGED, WITH_ENDS, (*RECTANGLES, *RECTANGLES[:2]), strict=True)
    ]
    model = EXPORTERS[exporter](module, requests[0])
    bags = collapsed(model)
    assert inputs_of(bags[0]) == ["x3", None, "x4"]
    assert inputs_of(bags[1]) == ["x0", "x1", "x2"]
    assert inputs_of(bags[2]) == ["x0", "x5", "x2"]
    assert [settings_of(node) for node in bags] == [("sum", -1, 0), ("sum", -1, 0), ("sum", -1, 1), ("sum", 7, 0)][: len(bags)]
    assert_answers_as_torch(model, module, *requests)


@pytest.mark.parametrize("opset", [13, 14, 15, 16, 18, 19, 20])
def test_every_opset_of_the_old_exporter(opset: int) -> None:
    module = Answer(
        lambda bags, ids, offsets, weights, rows: each(bags, ids, offsets) + each(bags, rows) + (bags[0](ids, offsets, weights),),
        *(bag(mode) for mode in MODES),
    )
    request = (*RAGGED[1], WEIGHTS[:5], RECTANGLES[0])
    model = legacy(module, request, opset=opset)
    assert [len(node.inputs) for node in collapsed(model)] == [3, 3, 3, 2, 2, 2, 4]
    assert_answers_as_torch(model, module, request)


@pytest.mark.parametrize("opset", [17, 22])
def test_opsets_of_the_new_exporter(opset: int) -> None:
    """It writes 18 and newer; 17 comes out of its version converter, which folds and merges."""
    module = bag("mean")
    model = dynamo(module, RAGGED[0], opset=opset)
    assert model.graph.opset_imports[""] == opset
    collapsed(model)
    assert_answers_as_torch(model, module, *RAGGED)


@both
def test_int32_ids_and_offsets(exporter: str) -> None:
    """The new exporter's own file isn't valid here: it joins int32 offsets and an int64 number of ids."""
    module = Answer(
        lambda bags, ids, offsets, rows: each(bags, ids, offsets) + each(bags, rows),
        bag("mean"),
        *([bag("sum", padding_idx=0)] if exporter == "dynamo" else []),
    )
    requests = [tuple(item.int() for item in (*ragged, rows)) for ragged, rows in zip(RAGGED[:4], RECTANGLES, strict=True)]
    model = EXPORTERS[exporter](module, requests[0])
    bags = collapsed(model)
    assert all(inputs_of(node) == ["x2"] for node in bags[len(bags) // 2 :])
    assert_answers_as_torch(model, module, *requests)


@both
def test_ids_that_the_graph_computes(exporter: str) -> None:
    def answer(bags: Any, ids: Tensor, offsets: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        def derived_ids(original_ids: Tensor) -> list[Tensor]:
            return [
                original_ids * 31 % ROWS,
                (original_ids + 3).clamp(max=LAST),
                (original_ids * 1.5).long() % ROWS,
                torch.where(original_ids > 9, 0, original_ids),
            ]

        return (*(bags[0](computed, offsets) for computed in derived_ids(ids)), *(bags[1](computed) for computed in derived_ids(rows)))

    module = Answer(answer, bag("mean"), bag("max"))
    requests = [(*ragged, rows) for ragged, rows in zip(RAGGED[:4], RECTANGLES, strict=True)]
    model = EXPORTERS[exporter](module, requests[0])
    assert [len(node.inputs) for node in collapsed(model)] == [3] * 4 + [2] * 4
    assert_answers_as_torch(model, module, *requests)


@both
def test_bags_of_columns_share_a_table(exporter: str) -> None:
    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bags = nn.ModuleList(bag(mode) for mode in MODES)
            self.bags[2].weight = self.bags[0].weight
            self.top = nn.Linear(3 * DIM + 1, 1)

        def forward(self, ids: Tensor, dense: Tensor) -> Tensor:
            pooled = [one(ids[:, 2 * column : 2 * column + 2]) for column, one in enumerate(self.bags)]
            return torch.sigmoid(self.top(torch.cat([*pooled, dense], dim=1)))

    module = Columns()
    requests = [(torch.randint(0, ROWS, (batch, 6)), torch.rand(batch, 1)) for batch in (5, 1, 8)]
    model = EXPORTERS[exporter](module, requests[0])
    bags = collapsed(model)
    assert [settings_of(node)[0] for node in bags] == list(MODES)
    assert bags[0].inputs[0] is bags[2].inputs[0]
    assert bags[0].inputs[0] is not bags[1].inputs[0]
    assert sum(len(value.shape or ()) == 2 for value in model.graph.initializers.values()) == 3  # two tables and a layer
    assert_answers_as_torch(model, module, *requests)


@both
def test_lists_of_ids_and_stacked_offsets(exporter: str) -> None:
    """As in Facebook's DLRM."""
    module = Answer(
        lambda bags, first, second, offsets: torch.cat(
            [one(ids, offsets[row]) for row, (one, ids) in enumerate(zip(bags, (first, second), strict=True))], 1
        ),
        bag(),
        bag("mean"),
    )
    ids, offsets = RAGGED[1]
    request = (ids, RAGGED[0][0], torch.stack([offsets, torch.arange(len(offsets))]))
    axes = {"x0": {0: "a"}, "x1": {0: "b"}, "x2": {1: "batch"}}
    shapes = (({0: Dim.AUTO}, {0: Dim.AUTO}, {1: Dim.AUTO}),)
    model = legacy(module, request, axes=axes) if exporter == "legacy" else dynamo(module, request, shapes=shapes)
    assert [inputs_of(node)[0] for node in collapsed(model)] == ["x0", "x1"]
    assert_answers_as_torch(model, module, request)


@both
def test_bags_of_one_length_that_are_cut_out_of_the_input(exporter: str) -> None:
    """Grouped, with one id a bag, and a column."""
    module = Answer(
        lambda bags, ids: (
            bags[0](ids.view(-1, 3)).view(-1, 2 * DIM),
            bags[0](ids[:, 0], torch.arange(ids.shape[0])),
            bags[0](ids[:, 2].unsqueeze(1)),
        ),
        bag("max"),
    )
    requests = [(torch.randint(0, ROWS, (batch, 6)),) for batch in (5, 1, 8)]
    model = EXPORTERS[exporter](module, requests[0])
    assert [len(node.inputs) for node in collapsed(model)] == [2, 2, 2]
    assert_answers_as_torch(model, module, *requests)


@both
def test_offsets_made_of_lengths_in_the_graph(exporter: str) -> None:
    def answer(bags: Any, ids: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        ends = lengths.cumsum(0)
        return bags[0](ids, ends - lengths), bags[1](ids, torch.cat([torch.zeros(1, dtype=torch.long), ends]))

    module = Answer(answer, bag("max"), bag("mean", include_last_offset=True))
    requests = [(ids, ends[1:] - ends[:-1]) for ids, ends in WITH_ENDS]
    model = EXPORTERS[exporter](module, requests[0])
    assert [settings_of(node) for node in collapsed(model)] == [("max", -1, 0), ("mean", -1, 1)]
    assert_answers_as_torch(model, module, *requests)


@both
def test_the_functional_form_and_a_sequential(exporter: str) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.rand(ROWS, DIM))
            self.stack = nn.Sequential(bag("mean"), nn.Linear(DIM, 1), nn.Flatten(0))

        def forward(self, ids: Tensor, offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            return functional.embedding_bag(ids, self.table, offsets, mode="max"), self.stack(rows)

    module = Mixed()
    requests = [(*ragged, rows) for ragged, rows in zip(RAGGED[:4], RECTANGLES, strict=True)]
    model = EXPORTERS[exporter](module, requests[0])
    collapsed(model)
    assert_answers_as_torch(model, module, *requests)


def test_named_dynamic_shapes() -> None:
    module = bag("sum")
    model = dynamo(module, RAGGED[0], shapes={"input": {0: Dim("all_ids")}, "offsets": {0: Dim("batch")}})
    collapsed(model)
    assert_answers_as_torch(model, module, *RAGGED)


def test_torchrec_bags_of_values_and_lengths() -> None:
    torchrec = pytest.importorskip("torchrec")
    poolings = {"a": torchrec.PoolingType.SUM, "b": torchrec.PoolingType.MEAN}
    module = Answer(
        lambda bags, values, lengths: bags[0](torchrec.KeyedJaggedTensor(keys=["a", "b"], values=values, lengths=lengths)).values(),
        torchrec.EmbeddingBagCollection(
            tables=[
                torchrec.EmbeddingBagConfig(name=name, embedding_dim=DIM, num_embeddings=ROWS, feature_names=[name], pooling=pooling)
                for name, pooling in poolings.items()
            ]
        ),
    )
    requests = [(torch.randint(0, ROWS, (sum(lengths),)), torch.tensor(lengths)) for lengths in ([2, 0, 3, 1, 4, 0], [1, 1], [0, 5, 2, 0])]
    model = dynamo(module, requests[0])
    assert [settings_of(node) for node in collapsed(model)] == [("sum", -1, 1), ("mean", -1, 1)]
    assert_answers_as_torch(model, module, *requests)
