"""Trains the demo's ranker on a click log and measures how well it ranks."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from recsplit.demo.click_log import ClickLog, Floats
from recsplit.zoo.ranker import Ranker, Sizes


def train(
    log: ClickLog,
    sizes: Sizes,
    *,
    epochs: int,
    batch: int,
    rate: float = 2e-3,
    seed: int = 0,
    advance: Callable[[int], None],
    of: Callable[[Sizes], Ranker] = Ranker,
) -> Ranker:
    """A ranker fitted to the log by Adam on the cross entropy; `of` makes it. `advance` is told the number of impressions of each step.

    On one thread, whatever torch is set to: the steps are so small that a second thread waits more than it works, and on a
    busy machine waits for minutes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _fit(log, sizes, of, epochs, batch, rate, seed, advance)
    finally:
        torch.set_num_threads(threads)


def _fit(
    log: ClickLog,
    sizes: Sizes,
    of: Callable[[Sizes], Ranker],
    epochs: int,
    batch: int,
    rate: float,
    seed: int,
    advance: Callable[[int], None],
) -> Ranker:
    torch.manual_seed(seed)
    model = of(sizes)
    for table in (model.user, model.segment, model.item, model.tags):
        torch.nn.init.normal_(table.weight, std=sizes.dim**-0.5 / 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    steps = epochs * -(-len(log) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(1 - step / steps, 0.02))
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        for chosen in np.array_split(order.permutation(len(log)), max(steps // epochs, 1)):
            part = log.rows(chosen)
            loss = functional.binary_cross_entropy(model(*map(torch.from_numpy, part.inputs().values())), torch.from_numpy(part.clicked))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(len(part))
    model.eval()
    return model


def predict(model: Ranker, log: ClickLog, batch: int = 8192) -> Floats:
    """Click probabilities [impressions]."""
    with torch.inference_mode():
        return np.concatenate([model(*map(torch.from_numpy, part.inputs().values())).numpy() for part in _batches(log, batch)])


def save(model: Ranker, path: Path) -> None:
    """The weights as safetensors, under the names that the factory's module has."""
    save_file(model.state_dict(), path)


def _batches(log: ClickLog, batch: int) -> Iterator[ClickLog]:
    for first in range(0, len(log), batch):
        yield log.rows(slice(first, first + batch))
