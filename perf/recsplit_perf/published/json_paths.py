"""Values in a JSON document by path, with a little arithmetic: `sum cases[policy=no policy].requests / 1000`.

A path has keys (`systems.fleet.queries_per_s`), places (`rounds[0]`, `shard_bytes[-1]`), and choices by what an item holds:
`cases[case=dense]`, several with ` & ` between them, several values with ` or `, all with `[*]`. Before it may stand a word of
REDUCTIONS, where it leads to several values; behind it ` after WORDS`: the first number behind these words in a string. Terms are joined
by + - * / with blanks around them, from left to right.
"""

import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

REDUCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": sum,
    "min": min,
    "max": max,
    "median": statistics.median,
    "count": len,
    "largest": lambda values: max(abs(value) for value in values),
}
_STEP = re.compile(r"\[([^\]]*)\]|\.?([^.\[\]]+)")


def evaluate(document: Any, expression: str, under: str = "") -> str | float:
    """What an expression says of a document, its paths beginning at the value at `under`. Raises LookupError where a path leads nowhere."""
    start = _only(select(document, under), under) if under else document
    first, *rest = re.split(r" ([-+*/]) ", expression)
    value = _term(start, first)
    for operator, term in zip(rest[::2], rest[1::2], strict=True):
        value = _joined(_number(value, first), operator, _number(_term(start, term), term))
    return value


def select(document: Any, path: str) -> list[Any]:
    """All values that a path leads to. Raises LookupError where it leads to none."""
    values = [document]
    for step in _STEP.finditer(path):
        choice, key = step.groups()
        values = [item for value in values for item in (_key(value, key) if key else _items(value, choice))]
        if not values:
            raise LookupError(f"nothing at {path[: step.end()]!r}")
    return values


def _key(value: Any, key: str) -> list[Any]:
    return [value[key]] if isinstance(value, dict) and key in value else []


def _items(value: Any, choice: str) -> list[Any]:
    if choice == "*" and isinstance(value, dict):
        return list(value.values())
    if not isinstance(value, list):
        return []
    if choice == "*":
        return value
    if re.fullmatch(r"-?\d+", choice):
        return value[int(choice) :][:1]
    wishes = [condition.partition("=") for condition in choice.split(" & ")]
    return [item for item in value if all(str(item.get(key)) in values.split(" or ") for key, _, values in wishes)]


def _term(start: Any, term: str) -> str | float:
    if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", term):
        return float(term)
    word, _, rest = term.partition(" ")
    if word in REDUCTIONS:
        return REDUCTIONS[word](select(start, rest))
    path, _, words = term.partition(" after ")
    value = _only(select(start, path), path)
    if words:
        behind = re.search(rf"{re.escape(words)}\s+(-?\d+(?:\.\d+)?)", str(value))
        if behind is None:
            raise LookupError(f"no number behind {words!r} in {value!r}")
        return float(behind[1])
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise LookupError(f"neither a number nor a text at {path!r}: {value!r}")
    return value


def _only(values: Sequence[Any], path: str) -> Any:
    if len(values) != 1:
        raise LookupError(f"{len(values)} values at {path!r}: say which, or one of {', '.join(REDUCTIONS)}")
    return values[0]


def _number(value: str | float, term: str) -> float:
    if isinstance(value, str):
        raise LookupError(f"no number at {term!r}: {value!r}")
    return value


def _joined(left: float, operator: str, right: float) -> float:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else left / right
