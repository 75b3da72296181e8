"""Factories: every kind of lookup keeps its form, and the IR answers as torch does at any batch size."""

import functools

import pytest

from recsplit.load import load
from tests.load import agreement, models
from tests.load.agreement import compare, inputs_of, load_and_compare, ops


@pytest.mark.parametrize(("factory", "kinds"), [("fixed_bags", models.FIXED), ("ragged_bags", models.OFFSETS)])
def test_every_embedding_bag_stays_one_node(factory: str, kinds: list[str]) -> None:
    loaded = load_and_compare(f"tests.load.models:{factory}")
    assert ops(loaded) == ["recsplit::EmbeddingBag"] * len(kinds)
    for kind, node in zip(kinds, loaded.model.graph, strict=True):
        inputs = [value is not None for value in node.inputs]
        assert node.outputs[0].name == kind
        assert node.attributes["mode"].as_string() == kind.partition("_")[0]
        assert node.attributes["padding_idx"].as_int() == (7 if "padded" in kind else -1)
        assert node.attributes["include_last_offset"].as_int() == ("last" in kind)
        ragged, weighted = factory == "ragged_bags", "weighted" in kind
        assert inputs == ([True, True, ragged, True] if weighted else [True, True, True] if ragged else [True, True])


def test_facebooks_offsets_are_rows_of_one_input() -> None:
    loaded = load_and_compare("recsplit.zoo.bags:facebook")
    assert ops(loaded).count("recsplit::EmbeddingBag") == 3


def test_embeddings_are_gathers_by_rows_of_their_tables() -> None:
    loaded = load_and_compare("tests.load.models:many_lookups")
    lookups = [node for node in loaded.model.graph if node.op_type == "Gather" and node.inputs[0].is_initializer()]  # type: ignore[union-attr]
    read = [node.inputs[0].name for node in lookups]  # type: ignore[union-attr]
    assert read.count("users.weight") == 2 and read.count("digits.weight") == 1 and read.count("wide.weight") == 1
    assert read.count("items.weight") == 3
    assert set(loaded.model.graph.initializers) >= {"users.weight", "items.weight", "digits.weight", "wide.weight"}


def test_indexing_a_parameter_is_gather_by_rows() -> None:
    loaded = load_and_compare("tests.load.models:weight_indexing")
    lookups = [node for node in loaded.model.graph if node.op_type == "Gather" and node.inputs[0].is_initializer()]  # type: ignore[union-attr]
    assert sorted(node.inputs[0].name or "" for node in lookups) == ["bias", "w", "w", "w"]  # type: ignore[union-attr]
    assert all(node.attributes["axis"].as_int() == 0 for node in lookups)
    assert "GatherND" not in ops(loaded)


def test_integer_division_is_exact_for_ids_beyond_float32() -> None:
    loaded = load_and_compare("tests.load.models:big_ids")
    assert "Floor" not in ops(loaded)


def test_bags_of_computed_ids_get_their_two_dimensions_back() -> None:
    loaded = load_and_compare("tests.load.models:computed_bags")
    nodes = [node for node in loaded.model.graph if node.op_type == "EmbeddingBag"]
    assert [node.inputs[1].shape.rank() for node in nodes] == [2, 2]  # type: ignore[union-attr]
    assert nodes[0].inputs[3] is loaded.model.graph.inputs[1]


def test_a_dynamic_length_stays_dynamic() -> None:
    loaded = load_and_compare("tests.load.models:any_length")
    compare(loaded, inputs_of("tests.load.models:any_length", batch=2, length=9))
    assert ops(loaded) == ["recsplit::EmbeddingBag"]


def test_a_tied_table_is_one_initializer() -> None:
    loaded = load_and_compare("tests.load.models:tied")
    assert len(loaded.model.graph.initializers) == 1


@pytest.mark.parametrize("name", ["int32_bags", "equal_by_chance", "half_table", "asserts_ids", "attention", "recurrent"])
def test_the_ir_answers_as_the_source(name: str) -> None:
    load_and_compare(f"tests.load.models:{name}")


def test_an_example_of_one_row_does_not_fix_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "single", functools.partial(models.equal_by_chance, batch=1), raising=False)
    loaded = load("tests.load.models:single")
    compare(loaded, *(inputs_of("tests.load.models:equal_by_chance", batch=batch, seed=1) for batch in (1, 4)))


@pytest.mark.parametrize("name", ["deepfm", "din"])
def test_deepctr_models_take_one_float_tensor(name: str) -> None:
    pytest.importorskip("deepctr_torch")
    loaded = load_and_compare(f"recsplit.zoo.deepctr:{name}", batches=(1, 5))
    assert agreement.names(loaded.model.graph.inputs) == ["X"]
    assert ops(loaded).count("Gather") >= 3
