"""Units are whole."""

import math


def whole(units: float) -> int:
    """The next whole number, rounding errors left out."""
    return math.ceil(units - 1e-6)
