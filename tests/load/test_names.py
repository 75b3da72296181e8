"""Nested inputs and outputs are flattened under readable names, and `run` speaks the same names."""

import numpy as np
import pytest

from recsplit.errors import InputError, RecsplitError
from recsplit.load import load
from recsplit.load.inputs import Path, readable
from tests.load.agreement import load_and_compare, names


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        ([("ids",), ("dense",)], ["ids", "dense"]),
        ([("ids", 0), ("ids", 1)], ["ids_0", "ids_1"]),
        ([("batch", "user"), ("batch", "item")], ["user", "item"]),
        ([("dense",), ("batch", "user"), ("batch", "item")], ["dense", "user", "item"]),
        ([("user",), ("batch", "user")], ["user", "batch_user"]),
        ([("a", "id"), ("b", "id")], ["a_id", "b_id"]),
        ([()], ["output"]),
        ([(0,), (1, "x"), (1, "y")], ["output_0", "output_1_x", "output_1_y"]),
        ([("a b",), ("a.b",), ("a_b",)], ["a_b", "a.b", "a_b_2"]),
        ([("taken",)], ["taken_2"]),
    ],
)
def test_paths_get_readable_names(paths: list[Path], wanted: list[str]) -> None:
    assert readable(paths, root="output", used_names=["taken"]) == wanted


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("one_dict", ["user_id", "item", "dense"], ["click_through", "item_2"]),
        ("two_dicts", ["user_id", "item_id"], ["output_0", "output_2_0", "output_2_1"]),
        ("named_tuple", ["dense", "user", "item", "extra"], ["click", "buy"]),
        ("lists", ["dense", "values_0", "values_1", "offsets_0", "offsets_1"], ["output"]),
        ("passed_through", ["user", "dense"], ["score", "again", "user_2", "dense_2"]),
    ],
)
def test_nested_values_are_flattened(name: str, inputs: list[str], outputs: list[str]) -> None:
    loaded = load_and_compare(f"tests.load.models:{name}")
    assert names(loaded.model.graph.inputs) == inputs == list(loaded.example or {})
    assert names(loaded.model.graph.outputs) == outputs


def test_names_in_the_ir_are_the_parameters_own() -> None:
    loaded = load("recsplit.zoo.bags:sum_fixed")
    assert {"bag.weight", "head.linear.weight"} <= set(loaded.model.graph.initializers)


def test_run_names_what_is_missing_and_what_torch_says() -> None:
    loaded = load("recsplit.zoo.bags:sum_fixed")
    assert loaded.example is not None
    with pytest.raises(InputError, match=r"inputs \['ids'\] are missing"):
        loaded.run({"dense": loaded.example["dense"]})
    with pytest.raises(RecsplitError, match="the source model fails"):
        loaded.run({"dense": loaded.example["dense"], "ids": np.full_like(loaded.example["ids"], 10_000)})
