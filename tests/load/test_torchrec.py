"""TorchRec: each EmbeddingBagCollection is one node, and the IR answers as the eager module does."""

import pytest

from recsplit.errors import InputError
from recsplit.load import load
from tests.load.agreement import load_and_compare, names, ops

torchrec = pytest.importorskip("torchrec")


@pytest.mark.parametrize(
    ("spec", "inputs"),
    [
        ("recsplit.zoo.torchrec:dlrm", ["dense_features", "sparse_features_values", "sparse_features_lengths"]),
        ("recsplit.zoo.torchrec:dlrm_values", ["dense", "values", "lengths"]),
        ("tests.load.jagged:deepfm", ["dense_features", "sparse_features_values", "sparse_features_lengths"]),
        ("tests.load.jagged:other_order", ["dense", "sparse_values", "sparse_lengths"]),
        ("tests.load.jagged:weighted", ["kjt_values", "kjt_lengths", "kjt_weights"]),
        ("tests.load.jagged:offsets", ["values", "offsets"]),
    ],
)
def test_a_collection_is_one_node_at_any_batch_size(spec: str, inputs: list[str]) -> None:
    loaded = load_and_compare(spec)
    assert ops(loaded).count("recsplit::JaggedBags") == 1
    assert names(loaded.model.graph.inputs) == inputs


def test_features_follow_the_keys_of_the_jagged_tensor() -> None:
    loaded = load("tests.load.jagged:other_order")
    (node,) = [node for node in loaded.model.graph if node.op_type == "JaggedBags"]
    assert list(node.attributes["features"].as_strings()) == ["user", "bought", "seen"]
    assert list(node.attributes["feature_table"].as_ints()) == [1, 0, 0]
    assert list(node.attributes["pooling"].as_strings()) == ["sum", "mean", "mean"]
    assert [value.name for value in node.inputs[3:] if value] == ["bags.embedding_bags.item.weight", "bags.embedding_bags.user.weight"]
    assert node.inputs[2] is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unused_key", r"has the keys \['user', 'item'\], and its EmbeddingBagCollection reads \['user'\]"),
        ("two_tables_for_a_feature", r"reads \['user', 'user'\]"),
        ("unpooled", "e is a torchrec.modules.embedding_modules.EmbeddingCollection, which recsplit does not split"),
        ("keyed_output", "output 'output' is a KeyedTensor, not a tensor"),
    ],
)
def test_other_forms_are_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(f"tests.load.jagged:{name}")
    assert caught.value.hint
