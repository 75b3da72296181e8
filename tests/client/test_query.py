"""What happens to a query before it is sent, and to its answers: no server here."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.client import query
from recsplit.client.answer import Answer, join
from recsplit.client.signature import Signature, read
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.plan import Bags, Tensor
from recsplit.plan.ragged import from_rows

PLAIN = Signature("plain", 8, (Tensor("x", "FP32", (3,)), Tensor("ids", "INT64", (2,))), frozenset(), ("score",), frozenset(), (), ())


def bags(**changes: Any) -> Bags:
    """Ids of two features, their lengths key-major."""
    fields = {"values": "items", "lengths": "items_lengths", "weights": None, "features": ("viewed", "bought")}
    fields |= {"source_values": "flat", "source_offsets": None, "source_lengths": "bag_lengths", "source_weights": None}
    return Bags(**(fields | {"source_row": None, "include_last_offset": False} | changes))


def ragged(*groups: Bags, ids: str = "INT64") -> Signature:
    inputs = []
    for group in groups:
        inputs += [Tensor(group.values, ids, (-1,)), Tensor(group.lengths, "INT64", (len(group.features),))]
        inputs += [Tensor(group.weights, "FP32", (-1,))] if group.weights is not None else []
    return Signature("ragged", 8, tuple(inputs), frozenset(), ("sums",), frozenset(), (), groups)


def floats(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros(shape, dtype=np.float32)


def ints(*shape: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.zeros(shape, dtype=np.int64)


@given(batch=st.integers(1, 100), limit=st.integers(1, 12))
def test_parts_are_even_small_enough_and_in_order(batch: int, limit: int) -> None:
    whole = np.arange(batch)
    parts = query.split({"x": whole}, limit)
    sizes = [len(part.tensors["x"]) for part in parts]
    assert len(parts) == -(-batch // limit)
    assert max(sizes) <= limit
    assert max(sizes) - min(sizes) <= 1
    assert [int(part.tensors["x"][0]) for part in parts] == [part.first_row for part in parts]
    joined = join([Answer(part.tensors, 3) for part in parts])
    assert joined is not None
    assert np.array_equal(joined["x"], whole)
    assert joined.version == 3


def test_parts_of_two_builds_are_no_answer() -> None:
    assert join([Answer({"x": ints(1)}, 3), Answer({"x": ints(1)}, 4)]) is None


def test_a_model_without_a_batch_dimension_is_never_split() -> None:
    assert len(query.split({"x": floats(100, 3)}, 0)) == 1


@pytest.mark.parametrize(
    ("inputs", "message", "hint"),
    [
        ({"x": floats(4, 3)}, "input 'ids' is missing: expected 'x', 'ids', found 'x'", "'plain' takes 'x', 'ids'"),
        ({"x": floats(4, 3), "ids": ints(4, 2), "y": 1}, "input 'y' is unknown: expected 'x', 'ids', found 'x', 'ids', 'y'", "takes"),
        ({"x": floats(4, 3), "ids": ints(4, 3)}, "input 'ids': expected INT64 [batch, 2], found INT64 [4, 3]", "check the shape"),
        ({"x": floats(3), "ids": ints(1, 2)}, "input 'x': expected FP32 [batch, 3], found FP32 [3]", "array[None]"),
        ({"x": [[0.5, 0.1, 1]], "ids": ints(1, 2)}, "expected FP32 [batch, 3], found FP64 [1, 3]: 0.1 is no float32 number", "float32)"),
        ({"x": [[1e39, 1, 1]], "ids": ints(1, 2)}, "input 'x': expected FP32 [batch, 3], found FP64 [1, 3]: 1e+39 is no", "float32)"),
        ({"x": [[2**24 + 1, 1, 1]], "ids": ints(1, 2)}, "found INT64 [1, 3]: 16777217 is no float32 number", "float32)"),
        ({"x": [[2**63 - 1, 1, 1]], "ids": ints(1, 2)}, "found INT64 [1, 3]: 9223372036854775807 is no float32", "float32)"),
        ({"x": np.full((1, 3), 2**64 - 1, np.uint64), "ids": ints(1, 2)}, "18446744073709551615 is no float32", "float32)"),
        ({"x": floats(4, 3), "ids": floats(4, 2)}, "input 'ids': expected INT64 [batch, 2], found FP32", "array.astype(numpy.int64)"),
        ({"x": floats(4, 3), "ids": ints(5, 2)}, "input 'ids': expected 4 rows, as 'x' has, found 5", "one row for each row"),
        ({"x": floats(0, 3), "ids": ints(0, 2)}, "input 'x': expected at least one row, found [0, 3]", "leave empty queries out"),
        ({"x": [[1.0, 2.0, 3.0], [1.0]], "ids": ints(2, 2)}, "input 'x' is not an array", "numpy"),
        ({"x": floats(1, 3), "ids": np.array([["a", "b"]])}, "input 'ids': expected INT64 [batch, 2], found BYTES [1, 2]", "astype"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_by_name(inputs: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        query.prepare(PLAIN, inputs)
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(("wanted", "given_dtype"), [("INT32", "int64"), ("INT64", "int32"), ("INT64", "uint8"), ("UINT8", "int64")])
def test_whole_numbers_that_fit_are_converted(wanted: str, given_dtype: str) -> None:
    model = Signature("m", 8, (Tensor("ids", wanted, (2,)),), frozenset(), (), frozenset(), (), ())
    sent = query.prepare(model, {"ids": np.array([[0, 127]], dtype=given_dtype)})["ids"]
    assert sent.dtype == wanted.lower()
    assert sent.tolist() == [[0, 127]]


@pytest.mark.parametrize(
    "numbers", [[0.5, -(2.0**-149), 2.0**127], [np.nan, np.inf, -np.inf], [2**24, -(2**40), 2**62], [True, 2, -0.0]], ids=str
)
def test_numbers_that_are_floats_are_converted(numbers: list[float]) -> None:
    sent = query.prepare(PLAIN, {"x": [numbers], "ids": ints(1, 2)})["x"]
    assert sent.dtype == np.float32
    assert np.array_equal(sent, np.array([numbers], dtype=np.float64), equal_nan=True)


@pytest.mark.parametrize("outside", [2**31, -(2**31) - 1])
def test_an_id_that_int32_cannot_hold_is_refused(outside: int) -> None:
    model = Signature("m", 8, (Tensor("ids", "INT32", (2,)),), frozenset(), (), frozenset(), (), ())
    with pytest.raises(InputError, match=rf"input 'ids': expected INT32 \(-2147483648 to 2147483647\), found {outside}") as caught:
        query.prepare(model, {"ids": np.array([[0, outside]])})
    assert "--ids int32" in caught.value.hint


def test_one_value_a_row_may_come_without_a_second_dimension() -> None:
    model = Signature("m", 8, (Tensor("user", "INT64", (1,)),), frozenset(), (), frozenset(), (), ())
    assert query.prepare(model, {"user": np.arange(3)})["user"].shape == (3, 1)


def test_an_optional_input_may_be_left_out() -> None:
    model = Signature("m", 8, PLAIN.inputs, frozenset(["ids"]), (), frozenset(), (), ())
    assert set(query.prepare(model, {"x": floats(2, 3)})) == {"x"}


@given(
    lengths=st.lists(st.integers(0, 40), min_size=2, max_size=20).filter(lambda bag_lengths: len(bag_lengths) % 2 == 0),
    seed=st.integers(0, 9),
)
def test_ragged_inputs_travel_as_rows_and_lose_nothing(lengths: list[int], seed: int) -> None:
    group = bags()
    values = np.random.default_rng(seed).integers(0, 1000, sum(lengths))
    sent = query.prepare(ragged(group), {"flat": values, "bag_lengths": np.array(lengths)})
    assert sent["items"].shape[1] % query.SLOTS_MULTIPLE == 0
    back = from_rows(group, sent)
    assert np.array_equal(back["flat"], values)
    assert back["bag_lengths"].tolist() == lengths


@pytest.mark.parametrize("last", [False, True])
def test_offsets_and_weights_travel_as_rows(last: bool) -> None:
    group = bags(
        weights="w", source_weights="flat_w", source_lengths=None, source_offsets="starts", include_last_offset=last, features=("f",)
    )
    starts = [0, 2, 2, 5, 9] if last else [0, 2, 2, 5]
    weights = np.linspace(0, 1, 9, dtype=np.float32)
    sent = query.prepare(ragged(group), {"flat": np.arange(9), "starts": np.array(starts), "flat_w": weights})
    assert sent["items_lengths"].tolist() == [[2], [0], [3], [4]]
    assert sent["items"][2, :3].tolist() == [2, 3, 4]
    assert sent["w"][3, :4].tolist() == weights[5:].tolist()


def test_groups_may_share_one_tensor_of_offsets() -> None:
    first = bags(features=("a",), source_values="va", source_lengths=None, source_offsets="starts", source_row=0)
    second = bags(values="b", lengths="bl", features=("b",), source_values="vb", source_lengths=None, source_offsets="starts", source_row=1)
    sent = query.prepare(ragged(first, second), {"va": np.arange(4), "vb": np.arange(5), "starts": np.array([[0, 1], [0, 5]])})
    assert sent["items_lengths"].tolist() == [[1], [3]]
    assert sent["bl"].tolist() == [[5], [0]]


def test_rows_are_told_from_a_models_own_inputs_even_where_the_names_are_the_same() -> None:
    group = bags(source_values="items", source_lengths="items_lengths")
    rows = query.prepare(ragged(group), {"items": ints(3, 5), "items_lengths": ints(3, 2)})
    assert rows["items"].shape == (3, 5)
    converted_rows = query.prepare(ragged(group), {"items": np.arange(4), "items_lengths": np.array([1, 1, 1, 1])})
    assert converted_rows["items"].shape == (2, query.SLOTS_MULTIPLE)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"flat": np.arange(4)}, "input 'bag_lengths' is missing: expected 'flat', 'bag_lengths', found 'flat'"),
        ({"flat": np.arange(4), "bag_lengths": [1, 1, 2]}, "input 'bag_lengths': expected [2 * batch], found [3]"),
        ({"flat": np.arange(4), "bag_lengths": [1, 2]}, "input 'bag_lengths' describes 3 ids and input 'flat' holds 4"),
        ({"flat": np.arange(4), "bag_lengths": [1.0, 3.0]}, "input 'bag_lengths': expected integers, found FP64"),
        ({"flat": np.arange(4) / 2, "bag_lengths": [1, 3]}, "input 'flat': expected INT64 [batch, any], found FP64"),
        ({}, "input 'items' is missing: expected 'items', 'items_lengths', found nothing"),
    ],
)
def test_ragged_inputs_that_do_not_fit_are_refused_by_the_names_the_user_gave(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        query.prepare(ragged(bags()), inputs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "offsets", "message"),
    [
        ({"features": ("f",)}, [[0, 1]], "input 'starts': expected [batch], found [1, 2]"),
        ({"features": ("f",), "include_last_offset": True}, [0], "input 'starts': expected [batch + 1], found [1]"),
        ({"features": ("f",), "source_row": 1}, [[0, 1]], "input 'starts': expected [features, batch], found [1, 2]"),
        ({}, [0, 1, 2], "input 'starts': expected [2 * batch], found [3]"),
        ({"features": ("f",)}, [0, 3, 1], "input 'starts' describes 4 ids and input 'flat' holds 4"),
        ({"features": ("f",)}, [1, 3], "input 'starts' describes 3 ids and input 'flat' holds 4"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(changes: dict[str, Any], offsets: list[Any], message: str) -> None:
    model = ragged(bags(**({"source_lengths": None, "source_offsets": "starts"} | changes)))
    with pytest.raises(InputError) as caught:
        query.prepare(model, {"flat": np.arange(4), "starts": np.array(offsets)})
    assert message in str(caught.value)


def test_a_description_of_ragged_inputs_from_another_version_is_refused() -> None:
    config = {"name": "m", "parameters": {"recsplit.client": {"string_value": '{"bags": [{"features": [], "novelty": 1}]}'}}}
    with pytest.raises(RecsplitError, match="in a form that this recsplit does not read") as caught:
        read(config)
    assert "build it again" in caught.value.hint
