"""Which columns an id comes from: what is traced holds, and ordinary forms are traced."""

import numpy as np
import pytest

from recsplit.graph.find.columns import trace
from tests.graph.small import loaded, proto, session

INPUTS = "(int64[batch, 3] a, int64[batch, 2, 2] b, int64[batch] c) => (int64[batch, {width}] ids)"
ARRAYS = {
    **{name: np.array(number) for name, number in (("zero", [0]), ("one", [1]), ("two", [2]), ("minus", [-1]), ("all", [2**62]))},
    "swapped": np.array([2, 0]),
    "wide": np.array([-1, 4]),
    "scalar": np.array(1),
    "shifts": np.array([10, 20, 30]),
    "parts": np.array([1, 2]),
    "back": np.array([-1, 3]),
    "square": np.array([[1, 2], [3, 4]]),
}


def traced(width: int, nodes: str) -> list[tuple[str, int | None, int]] | None:
    """(input, column, shift) of each id; what is traced is compared with what the model computes."""
    model = proto(f"{INPUTS.format(width=width)} {{ {nodes} }}", ARRAYS)
    columns = trace(loaded(model).graph.outputs[0])
    if columns is None:
        return None
    feeds = {"a": np.arange(15).reshape(5, 3) * 7, "b": 1000 + np.arange(20).reshape(5, 2, 2) * 11, "c": 5000 + np.arange(5) * 13}
    held = [feeds[column.source.name or ""].reshape(5, -1)[:, column.column or 0] + column.shift for column in columns]
    np.testing.assert_array_equal(np.stack(held, 1), session(model)(feeds)["ids"].reshape(5, -1))
    return [(column.source.name or "", column.column, column.shift) for column in columns]


A, B = [("a", 0, 0), ("a", 1, 0), ("a", 2, 0)], [("b", 0, 0), ("b", 1, 0), ("b", 2, 0), ("b", 3, 0)]


@pytest.mark.parametrize(
    ("nodes", "columns"),
    [
        ("ids = Identity (a)", A),
        ("flat = Flatten (b)  ids = Identity (flat)", B),
        ("ids = Unsqueeze (c, one)", [("c", None, 0)]),
        ("column = Unsqueeze (c, minus)  ids = Concat <axis = -1> (column, a)", [("c", None, 0), *A]),
        ("ids = Gather <axis = 1> (a, swapped)", [A[2], A[0]]),
        ("one_of = Gather <axis = -1> (a, scalar)  ids = Unsqueeze (one_of, one)", [A[1]]),
        ("ids = Gather <axis = 1> (a, minus)", [A[2]]),
        ("ids = Slice (a, one, two, one)", [A[1]]),
        ("ids = Slice (a, minus, all, one)", [A[2]]),
        ("ids = Slice (a, zero, all, one, two)", [A[0], A[2]]),
        ("rows = Slice (a, zero, all, zero)  ids = Slice (rows, one, all, minus)", A[1:]),
        ("first, ids = Split <axis = 1> (a, parts)", A[1:]),
        ("top, low = Split <axis = 1> (b)  ids = Flatten (low)", B[2:]),
        ("turned = Transpose <perm = [0, 2, 1]> (b)  ids = Flatten (turned)", [B[0], B[2], B[1], B[3]]),
        ("down = Transpose (a)  ids = Transpose (down)", A),
        ("down = Transpose (a)  last = Gather (down, swapped)  ids = Transpose (last)", [A[2], A[0]]),
        ("line = Slice (b, one, all, one)  flat = Squeeze (line, one)  ids = Add (flat, wide)", [("b", 2, -1), ("b", 3, 4)]),
        ("ids = Add (shifts, a)", [("a", 0, 10), ("a", 1, 20), ("a", 2, 30)]),
        ("ids = Sub (a, shifts)", [("a", 0, -10), ("a", 1, -20), ("a", 2, -30)]),
        ("more = Add (a, scalar)  ids = Sub (more, two)", [("a", number, -1) for number in range(3)]),
        ("moved = Add (b, square)  ids = Flatten (moved)", [("b", number, number + 1) for number in range(4)]),
        ("moved = Add (c, one)  ids = Unsqueeze (moved, one)", [("c", None, 1)]),
        ("wider = Unsqueeze (c, one)  ids = Add (wider, shifts)", [("c", None, 10), ("c", None, 20), ("c", None, 30)]),
        ("joined = Concat <axis = 1> (b, b)  ids = Flatten (joined)", [*B, *B]),
        ("joined = Concat <axis = 2> (b, b)  ids = Flatten (joined)", [*B[:2], *B[:2], *B[2:], *B[2:]]),
        ("line = Reshape (a, minus)  ids = Reshape (line, back)", A),
        ("halves = Cast <to = 6> (a)  ids = Cast <to = 7> (halves)", A),
    ],
)  # fmt: skip
def test_ordinary_forms_are_traced(nodes: str, columns: list[tuple[str, int | None, int]]) -> None:
    assert traced(len(columns), nodes) == columns


@pytest.mark.parametrize(
    ("width", "nodes"),
    [
        (3, "ids = Mul (a, scalar)"),
        (1, "ids = Gather <axis = 0> (a, zero)"),
        (3, "ids = Slice (a, one, all, zero)"),
        (3, "down = Transpose (a)  ids = Reshape (down, back)"),
        (3, "ids = Concat <axis = 0> (a, a)"),
        (3, "own = Gather (a, zero)  ids = Sub (a, own)"),
    ],
    ids=["multiplied", "one row for all", "other rows", "regrouped", "more rows", "less another id"],
)
def test_what_is_computed_in_another_way_has_no_columns(width: int, nodes: str) -> None:
    model = loaded(proto(f"{INPUTS.format(width=width)} {{ {nodes} }}", ARRAYS))
    assert trace(model.graph.outputs[0]) is None
