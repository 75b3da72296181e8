"""Forecasters: from the largest rates of the last periods to the largest of the next one. Pure; the controller remembers the rates.

`FORECASTERS` holds those that need nothing but a history; `named` gives them by name, and an LSTM from the file of its weights.
"""

from collections.abc import Mapping
from pathlib import Path

from recsplit.errors import InputError
from recsplit_controller.forecast import lstm
from recsplit_controller.forecast.forecaster import Forecaster
from recsplit_controller.forecast.rules import ewm, holt, last_max, seasonal

__all__ = ["FORECASTERS", "Forecaster", "named"]

#: By name; each wants as many periods as it says. A season is a day of minutes.
FORECASTERS: Mapping[str, Forecaster] = {rule.name: rule for rule in (last_max(), ewm(), holt(), seasonal())}
LSTM = "lstm:"


def named(name: str) -> Forecaster:
    """The forecaster of that name; "lstm:FILE" reads the weights that `recsplit forecast --train` wrote: once, when a controller starts.

    Raises InputError where there is none of that name, or the file is no such weights.
    """
    if name in FORECASTERS:
        return FORECASTERS[name]
    if name.startswith(LSTM) and len(name) > len(LSTM):
        return lstm.read(Path(name[len(LSTM) :]))
    raise InputError(f"there is no forecaster {name!r}", hint=f"choose one of {', '.join(FORECASTERS)}, or lstm:FILE with its weights")
