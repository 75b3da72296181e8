"""Training the LSTM with torch, which nothing else of the controller needs; `lstm` runs what comes out of it.

As InfAdapter: ten periods in, the eleventh out, 25 hidden units, Adam on the squared error, 30 rounds of batches of 64. Not as InfAdapter:
histories are divided by their largest value, and the LSTM has torch's tanh, without a penalty on weights.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import InputError, MissingExtra
from recsplit_controller.forecast.forecaster import Floats
from recsplit_controller.forecast.lstm import PERIODS

#: Adam's step.
RATE = 0.003
Weights = Mapping[str, NDArray[np.float32]]


def train(
    maxima: Floats, *, rounds: int = 30, hidden: int = 25, batch: int = 64, seed: int = 0, advance: Callable[[int], None] | None = None
) -> Weights:
    """Weights learnt from float64 [periods], the largest rate of each; `advance` is told of each round. The same seed, the same weights.

    Raises MissingExtra without torch, and InputError for too short a trace.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtra("torch", "torch", "training an LSTM") from error
    windows = np.lib.stride_tricks.sliding_window_view(maxima, PERIODS + 1) if len(maxima) > PERIODS else np.zeros((0, PERIODS + 1))
    windows = windows[windows[:, :PERIODS].max(axis=1) > 0]
    if len(windows) < batch:
        raise InputError(f"{len(maxima)} periods are too few to train on", hint=f"give a trace with {batch + PERIODS} periods or more")
    scaled = torch.tensor(windows / windows[:, :PERIODS].max(axis=1, keepdims=True), dtype=torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only wait for each other over so few numbers
    try:
        parts = _fitted(torch, scaled, rounds, hidden, batch, seed, advance)
    finally:
        torch.set_num_threads(threads)
    return {name: value.detach().numpy() for name, value in parts.state_dict().items()}


def _fitted(torch: Any, scaled: Any, rounds: int, hidden: int, batch: int, seed: int, advance: Callable[[int], None] | None) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(1, hidden, batch_first=True), "head": torch.nn.Linear(hidden, 1)})
    optimizer = torch.optim.Adam(parts.parameters(), lr=RATE)
    for _ in range(rounds):
        for chosen in torch.randperm(len(scaled), generator=generator).split(batch):
            history, after = scaled[chosen, :PERIODS, None], scaled[chosen, PERIODS]
            said = parts["head"](parts["lstm"](history)[0][:, -1])[:, 0]
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(said, after).backward()
            optimizer.step()
        if advance is not None:
            advance(1)
    return parts


def packed(weights: Weights) -> bytes:
    """Weights as safetensors, for `lstm.read`."""
    from safetensors.numpy import save

    return save(dict(weights))
