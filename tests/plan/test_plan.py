"""plan.json is read strictly: what is read back is what was written, and anything else is refused with its place."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.errors import InputError
from recsplit.plan.plan import SCHEMA, Plan, from_json, to_json
from tests.configs.plans import shop

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(int, st.integers(1 - 2**63, 2**63 - 1))
PLANS = st.builds(Plan, schema=st.just(SCHEMA))
Path = tuple[str | int, ...]


@settings(max_examples=40)
@given(PLANS)
def test_any_plan_comes_back_as_it_was(plan: Plan) -> None:
    assert from_json(to_json(plan)) == plan


def test_the_text_is_stable_and_ends_in_a_newline() -> None:
    text = to_json(shop())
    assert text == to_json(from_json(text)) and text.endswith("}\n")


def paths(data: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value, the root left out."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths(value, (*path, key))


def parent(data: Any, path: Path) -> Any:
    for key in path[:-1]:
        data = data[key]
    return data


DATA: dict[str, Any] = json.loads(to_json(shop()))
PATHS = list(paths(DATA))
OBJECTS = [(), *(path for path in PATHS if isinstance(parent(DATA, path)[path[-1]], dict))]
KEYS = [path for path in PATHS if isinstance(path[-1], str)]


def test_an_unknown_key_is_refused_wherever_it_is() -> None:
    for path in OBJECTS:
        changed = copy.deepcopy(DATA)
        parent(changed, (*path, "x"))["added"] = 1
        with pytest.raises(InputError, match="added"):
            from_json(json.dumps(changed))


def test_a_missing_key_is_refused_wherever_it_is() -> None:
    for path in KEYS:
        changed = copy.deepcopy(DATA)
        del parent(changed, path)[path[-1]]
        with pytest.raises(InputError, match="schema" if path == ("schema",) else "expected the keys"):
            from_json(json.dumps(changed))


VALUES: list[Any] = [None, True, 0, 1.5, -1, "text", "1", [], [1], ["a"], {}, {"a": 1}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_of_another_type_is_refused_or_means_itself(value: Any) -> None:
    """What is accepted must be what was written: never a number for a text, a truth for a number, a list cut short."""
    for path in PATHS:
        changed = copy.deepcopy(DATA)
        parent(changed, path)[path[-1]] = value
        try:
            again = json.loads(to_json(from_json(json.dumps(changed))))
        except InputError:
            continue
        assert again == changed, path
        assert type(parent(again, path)[path[-1]]) is type(value) or path == ("tolerance",), path


@pytest.mark.parametrize("schema", [0, SCHEMA + 1, -1, None, "1", [1]])
def test_another_schema_is_refused_by_its_number(schema: Any) -> None:
    with pytest.raises(InputError, match="schema"):
        from_json(json.dumps({**DATA, "schema": schema}))


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[]", "null", "1", '"plan"', "{}", to_json(shop())[:-20]])
def test_what_is_no_plan_is_refused_and_its_origin_told(text: str) -> None:
    with pytest.raises(InputError, match=r"shop/1/plan\.json"):
        from_json(text, origin="shop/1/plan.json")


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        shop().name = "other"  # type: ignore[misc]
