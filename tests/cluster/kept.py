"""Whether an API server kept what it was sent: a field that its schema doesn't know is pruned, and a number is written as it likes."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

_FACTORS = {"m": "0.001", "k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12"} | {
    f"{letter}i": str(1024**power) for power, letter in enumerate("KMGT", start=1)
}


def lost(sent: Any, kept: Any, where: str = "") -> Iterator[str]:
    """What of `sent` isn't in `kept`, by its path. Entries of a list are looked for at their places."""
    if isinstance(sent, dict):
        if not isinstance(kept, dict):
            yield where
            return
        for key, value in sent.items():
            if value in (None, {}, []):
                continue  # the same as nothing
            if key not in kept:
                yield f"{where}/{key}"
            else:
                yield from lost(value, kept[key], f"{where}/{key}")
    elif isinstance(sent, list):
        if not isinstance(kept, list) or len(kept) < len(sent):
            yield where
            return
        for number, (one, other) in enumerate(zip(sent, kept, strict=False)):
            yield from lost(one, other, f"{where}/{number}")
    elif sent != kept and _amount(sent) != _amount(kept):
        yield f"{where}: {sent!r} became {kept!r}"


def _amount(value: Any) -> Decimal | Any:
    """A quantity as a number: "500m" is 0.5, "1Gi" 1073741824."""
    text = str(value)
    unit = next((unit for unit in sorted(_FACTORS, key=len, reverse=True) if text.endswith(unit)), "")
    try:
        return Decimal(text.removesuffix(unit)) * Decimal(_FACTORS.get(unit, "1"))
    except InvalidOperation:
        return value
