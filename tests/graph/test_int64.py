"""Whole numbers of any size: operators on INT64 answer as numpy does on the onnxruntime that is installed, after the rewrite."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit.graph.int64 import rewrite_int64
from tests.graph.small import agrees, loaded, proto, session, table

Whole = NDArray[np.int64]
#: Around each border of a half, a double's digits, and the dtype.
NUMBERS = np.array(
    [
        sign * (border + step)
        for border in (0, 30, 2**15, 2**24, 2**31, 3 * 10**9, 2**32, 2**53, 2**62)
        for step in (-1, 0, 1, 5)
        for sign in (1, -1)
    ]
    + [2**63 - 1, -(2**63) + 1],
    dtype=np.int64,
)
BOUNDS = (-(2**40), -5, 0, 30, 2**31 - 1, 2**31, 2**31 + 5, 2**32 + 3, 2**53 + 1)


def truncated(one: Whole, other: int) -> Whole:
    quotient = [abs(int(number)) // abs(other) * (1 if (number < 0) == (other < 0) else -1) for number in one]
    return np.array(quotient, dtype=np.int64)


ELEMENTWISE: dict[str, Callable[[Whole, int], NDArray[Any]]] = {
    "Min(x, c)": np.minimum,
    "Min(c, x)": np.minimum,
    "Max(x, c)": np.maximum,
    "Max(x, c, x)": np.maximum,
    "Clip(x, c)": np.maximum,
    'Clip(x, "", c)': np.minimum,
    "Clip(x, zero, c)": lambda x, c: np.minimum(np.maximum(x, 0), c),
    "Relu(x)": lambda x, c: np.maximum(x, 0),
    "Sign(x)": lambda x, c: np.sign(x),
    "Abs(x)": lambda x, c: np.abs(x),
    "Neg(x)": lambda x, c: -x,
    "Add(x, c)": lambda x, c: x + c,
    "Sub(x, c)": lambda x, c: x - c,
    "Mul(x, c)": lambda x, c: x * c,
    "Pow(x, two_)": lambda x, c: x**2,
    "Pow(x, three)": lambda x, c: x**3,
    "Mod(x, d)": lambda x, c: np.mod(x, c or 7),
    "Mod<fmod=1>(x, d)": lambda x, c: x - truncated(x, c or 7) * (c or 7),
    "Div(x, d)": lambda x, c: truncated(x, c or 7),
    "BitwiseAnd(x, c)": lambda x, c: x & c,
    "BitwiseOr(x, c)": lambda x, c: x | c,
    "BitwiseXor(x, c)": lambda x, c: x ^ c,
    "Where(seven, x, c)": lambda x, c: np.where(x == 7, x, c),
}
COMPARISONS: dict[str, Callable[[Whole, int], NDArray[np.bool_]]] = {
    "Less(x, c)": lambda x, c: x < c,
    "LessOrEqual(x, c)": lambda x, c: x <= c,
    "Greater(x, c)": lambda x, c: x > c,
    "GreaterOrEqual(x, c)": lambda x, c: x >= c,
    "Equal(x, c)": lambda x, c: x == c,
}


def answers(nodes: str, bound: int) -> Whole:
    """y of `nodes` for x = NUMBERS, as one vector; c, d and zero are constants."""
    arrays = {
        "c": np.array(bound),
        "d": np.array(bound or 7),
        "zero": np.array(0),
        "two": np.array(7),
        "two_": np.array(2),
        "three": np.array(3.0, np.float32),
    }
    model = loaded(proto(f"(int64[N] x) => (int64[N] y) {{ seven = Equal(x, two) {nodes} }}", arrays, opset=18))
    rewrite_int64(model)
    return session(model)({"x": NUMBERS})["y"]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("form", [*ELEMENTWISE, *COMPARISONS])
def test_elementwise_operators_are_right_at_any_size(form: str, bound: int) -> None:
    with np.errstate(over="ignore"):
        expected = (ELEMENTWISE | COMPARISONS)[form](NUMBERS, bound)
    nodes = f"b = {form} y = Cast<to=7>(b)" if form in COMPARISONS else f"y = {form}"
    np.testing.assert_array_equal(answers(nodes, bound), expected.astype(np.int64))


AXES = ((1,), (0,), (0, 1), ())
#: A product goes over known sizes, which the batch's isn't.
REDUCTIONS = [("ReduceProd", (1,)), *((kind, axes) for kind in ("ReduceSum", "ReduceMax", "ReduceMin") for axes in AXES)]


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("kind", "axes"), REDUCTIONS)
def test_reductions_are_right_at_any_size(kind: str, axes: tuple[int, ...], keepdims: int, opset: int) -> None:
    numbers = np.random.default_rng(0).choice(NUMBERS, (40, 6))
    numbers[:8] = np.random.default_rng(1).choice(NUMBERS[NUMBERS > 2**30], (8, 6))
    as_input = kind == "ReduceSum" or opset == 18
    inputs = "x, axes" if axes and as_input else "x"
    attributes = f"keepdims={keepdims}" + (f", axes={list(axes)}" if axes and not as_input else "")
    if axes and as_input:
        attributes += ", noop_with_empty_axes=1"  # and these aren't empty
    model = loaded(
        proto(f"(int64[N,6] x) => (int64[A,B] y) {{ y = {kind}<{attributes}>({inputs}) }}", {"axes": np.array(axes)}, opset=opset)
    )
    for value in model.graph.outputs:
        value.shape = None
    rewrite_int64(model)
    reduce = {"ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min}[kind]
    expected = reduce(numbers, axis=axes or None, keepdims=bool(keepdims))  # type: ignore[operator]
    np.testing.assert_array_equal(session(model)({"x": numbers})["y"], expected)


TWICE = "q = Unsqueeze(p, one) r = Concat<axis=1>(q, q)"
IDS = {
    "clip": "i = Clip(ids, zero, last)",
    "minimum and maximum": "m = Max(ids, zero) i = Min(m, last)",
    "a hash of a sum": f"p = Mul(ids, prime) {TWICE} s = ReduceSum<keepdims=0>(r, one) i = Mod(s, rows)",
    "a hash of the least": f"p = Neg(ids) {TWICE} n = Neg(r) s = ReduceMin<keepdims=0>(n, one) i = Mod(s, rows)",
}


@pytest.mark.parametrize("nodes", IDS.values(), ids=IDS)
def test_ids_from_2_to_the_31_on_read_their_rows(nodes: str) -> None:
    arrays = {"t": table(31, 8), "zero": np.array(0), "last": np.array(30), "prime": np.array(2654435761), "one": np.array([1])}
    arrays["rows"] = np.array(31)
    text = f"(int64[N] ids) => (float[N,8] y) {{ {nodes} y = Gather(t, i) }}"
    parts = agrees(text, arrays, {"ids": 31}, opset=18)
    ids = np.concatenate([NUMBERS, NUMBERS[::-1]])
    with np.errstate(over="ignore"):
        rows = {"clip": ids.clip(0, 30), "minimum and maximum": ids.clip(0, 30), "a hash of a sum": (ids * 2654435761 * 2) % 31}
    expected = rows.get(next(name for name, text in IDS.items() if text == nodes), ids % 31)
    np.testing.assert_array_equal(parts({"ids": ids})["y"], arrays["t"][expected])


SMALL = (
    "m = Cast<to=7>(b) y = ReduceSum<keepdims=0>(m, one)",
    "m = Cast<to=7>(b) t = Transpose(m) u = Transpose(t) y = ReduceSum<keepdims=0>(u, one)",
    "m = Where(b, hundred, zero) y = ReduceSum<keepdims=0>(m, one)",
    "m = Mod(x, hundred) y = Max(m, zero)",
)


@pytest.mark.parametrize("nodes", SMALL)
def test_what_only_small_numbers_reach_stays_as_it_is(nodes: str) -> None:
    """Counting a mask is common and needs one operator."""
    arrays = {"zero": np.array(0), "hundred": np.array(100), "one": np.array([1])}
    shape = "N" if "ReduceSum" in nodes else "N,6"
    model = loaded(proto(f"(int64[N,6] x) => (int64[{shape}] y) {{ b = Greater(x, zero) {nodes} }}", arrays))
    before = [node.op_type for node in model.graph]
    rewrite_int64(model)
    assert [node.op_type for node in model.graph] == before


@pytest.mark.parametrize("nodes", ["m = Cast<to=7>(b) n = Add(m, x)", "n = Where(b, zero, x)", "f = Cast<to=11>(x) n = Cast<to=7>(f)"])
def test_what_a_large_number_may_have_gone_into_is_rewritten(nodes: str) -> None:
    model = loaded(proto(f"(int64[N,6] x) => (int64[N,6] y) {{ b = Greater(x, zero) {nodes} y = Max(n, zero) }}", {"zero": np.array(0)}))
    rewrite_int64(model)
    assert "Max" not in [node.op_type for node in model.graph]


@pytest.mark.parametrize("exponent", [np.array(2.5), np.array(-1), np.array(10**6), np.array([2, 3])], ids=str)
def test_a_power_that_is_no_short_product_stays_as_it_is(exponent: NDArray[Any]) -> None:
    model = loaded(proto("(int64[N,2] x) => (int64[N,2] y) { y = Pow(x, c) }", {"c": exponent}))
    rewrite_int64(model)
    assert [node.op_type for node in model.graph] == ["Pow"]


def test_a_sum_over_no_axes_that_is_to_be_none_stays_as_it_is() -> None:
    model = loaded(proto("(int64[N,2] x) => (int64[N,2] y) { y = ReduceSum<noop_with_empty_axes=1>(x) }", {}))
    rewrite_int64(model)
    assert [node.op_type for node in model.graph] == ["ReduceSum"]
