"""A small LSTM in numpy: what torch trained (forecast.training), run without torch.

A history is divided by its largest value, so that weights learnt on one trace make sense on another of any size. Shapes and the order
of gates (input, forget, cell, output) are torch.nn.LSTM's; one layer, then one linear unit.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.strict_json import shown
from recsplit_controller.forecast.forecaster import Floats, Forecaster

PERIODS = 10
#: Of a file of weights: some thousand times those that `training` makes.
MOST_BYTES = 1 << 25
#: What a file of weights holds: names and shapes, with h hidden units.
NAMES = ("lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0", "head.weight", "head.bias")
AGAIN = "train them: recsplit forecast TRACE --train FILE"


def read(path: Path) -> Forecaster:
    """The forecaster whose weights lie in a safetensors file. Raises InputError where it can't be read, or holds something else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = bounded.read_bytes(path, MOST_BYTES, hint=AGAIN)
    try:
        weights = load(data)
    except (SafetensorError, ValueError, KeyError) as error:  # ValueError, KeyError: of shapes and types that numpy doesn't have
        raise InputError(f"{path} is no file of weights: {error}", hint=AGAIN) from error
    shapes = {name: array.shape for name, array in weights.items()}
    hidden = shapes.get("head.weight", (1, 0))[-1]
    expected = dict(zip(NAMES, ((4 * hidden, 1), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,), (1, hidden), (1,)), strict=True))
    if shapes != expected or not hidden or not all(np.isfinite(array).all() for array in weights.values()):
        raise InputError(f"{path} doesn't hold the weights of a forecaster: {shown(sorted(shapes))}", hint=AGAIN)
    trained = forecaster({name: array.astype(np.float64) for name, array in weights.items()})
    return dataclasses.replace(trained, digest=hashlib.sha256(data).hexdigest())


def forecaster(weights: Mapping[str, Floats]) -> Forecaster:
    """The LSTM with these weights (NAMES). With less than PERIODS of history it is the last maximum."""
    into, back = weights["lstm.weight_ih_l0"][:, 0], weights["lstm.weight_hh_l0"].T
    bias = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
    head, offset = weights["head.weight"][0], weights["head.bias"][0]

    def rule(windows: Floats) -> Floats:
        if windows.shape[1] < PERIODS:
            return windows[:, -1]
        scale = np.maximum(windows.max(axis=1), 1e-9)
        hidden = cell = np.zeros((len(windows), len(head)))
        for place in range(windows.shape[1]):
            gates = (windows[:, place] / scale)[:, None] * into + hidden @ back + bias
            enter, forget, new, out = np.split(gates, 4, axis=1)
            cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(new)
            hidden = _sigmoid(out) * np.tanh(cell)
        return np.asarray((hidden @ head + offset) * scale)

    return Forecaster("lstm", PERIODS, rule)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
