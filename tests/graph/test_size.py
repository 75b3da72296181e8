"""Few operators, however many tables: the reason why a split with hundreds of tables is fast; and cutting them takes no square of them."""

from collections import Counter

import numpy as np
import pytest

from tests.calls import calls
from tests.graph.small import Array, Small, agrees, small, table


def click_model(tables: int, *, packed: bool, dims: tuple[int, ...] = (8,)) -> tuple[str, dict[str, Array]]:
    """One id a table, from columns of one input or from an input each; their vectors side by side into one layer."""
    widths = [dims[number % len(dims)] for number in range(tables)]
    arrays = {f"t{number}": table(100 + number, width, seed=number) for number, width in enumerate(widths)}
    arrays |= {f"k{number}": np.array(number) for number in range(tables)} | {"w": table(sum(widths), 1)}
    if packed:
        signature = f"int64[N,{tables}] ids"
        lookups = " ".join(f"c{number}=Gather<axis=1>(ids,k{number}) v{number}=Gather(t{number},c{number})" for number in range(tables))
    else:
        signature = ", ".join(f"int64[N] i{number}" for number in range(tables))
        lookups = " ".join(f"v{number}=Gather(t{number},i{number})" for number in range(tables))
    vectors = ",".join(f"v{number}" for number in range(tables))
    return f"({signature}) => (float[N,1] y) {{ {lookups} c=Concat<axis=1>({vectors}) y=MatMul(c,w) }}", arrays


def operators(parts: Small) -> Counter[str]:
    return Counter(parts.operators("embedding"))


@pytest.mark.parametrize("tables", [1, 26, 250])
def test_lookups_from_one_input_take_the_same_few_operators_however_many_they_are(tables: int) -> None:
    text, arrays = click_model(tables, packed=True)
    parts = small(text, arrays)
    assert operators(parts)["Gather"] == 1 and sum(operators(parts).values()) <= 14
    assert len(parts.cut.boundary) == 1


def test_inputs_of_their_own_take_one_operator_each() -> None:
    text, arrays = click_model(26, packed=False)
    operator_counts = operators(agrees(text, arrays, {f"i{number}": 100 for number in range(26)}))
    assert operator_counts.pop("Unsqueeze") == 26 and sum(operator_counts.values()) <= 15


def test_each_dim_takes_one_more_gather_and_one_brings_the_columns_into_order() -> None:
    text, arrays = click_model(26, packed=True, dims=(4, 8, 16))
    parts = agrees(text, arrays, {"ids": 100})
    assert operators(parts)["Gather"] == 4 and sum(operators(parts).values()) <= 20
    assert len(parts.cut.boundary) == 3


def test_a_wide_and_a_deep_table_on_each_of_26_inputs_unsqueeze_each_input_once() -> None:
    names = [f"i{number}" for number in range(26)]
    wide = " ".join(f"a{number}=Gather(w{number},{name})" for number, name in enumerate(names))
    deep = " ".join(f"b{number}=Gather(t{number},{name})" for number, name in enumerate(names))
    sums = f"p=Sum({','.join(f'a{number}' for number in range(26))}) q=Sum({','.join(f'b{number}' for number in range(26))}) y=Mul(p,q)"
    text = f"({', '.join(f'int64[N] {name}' for name in names)}) => (float[N,8] y) {{ {wide} {deep} {sums} }}"
    arrays = {f"t{number}": table(100, 8, seed=number) for number in range(26)} | {
        f"w{number}": table(100, 1, seed=number) for number in range(26)
    }
    assert operators(agrees(text, arrays, dict.fromkeys(names, 100)))["Unsqueeze"] == 26


def test_cutting_hundreds_of_tables_takes_no_square_of_them() -> None:
    fewer, more = (click_model(tables, packed=False) for tables in (50, 200))
    calls_of_fewer, calls_of_more = calls(lambda: small(*fewer)), calls(lambda: small(*more))
    assert calls_of_more < 5 * calls_of_fewer, (calls_of_fewer, calls_of_more)
