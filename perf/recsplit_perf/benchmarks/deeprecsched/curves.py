"""What a batch takes on one core in PyTorch, as the paper's engines ran Caffe2: one thread, pinned, one batch at a time."""

import importlib
import os
import time

import torch

from recsplit.capacity.batch_size import BATCHES
from recsplit.capacity.profile import Curve, curve
from recsplit.zoo.catalogue.shapes import Published

#: Rows that are drawn; batches go through them, so that caches don't hold what they read.
ROWS = 4096
FEWEST = 7


def by_torch(model: Published, seconds: float) -> Curve:
    """Milliseconds of eager PyTorch by rows, some `seconds` in all; times are taken in turns over the batches, FEWEST of each at least."""
    module_name, _, factory = model.factory.partition(":")
    module, example, *_ = getattr(importlib.import_module(module_name), factory)(batch=ROWS)
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    samples_ms: dict[int, list[float]] = {rows: [] for rows in BATCHES}
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            until, place = time.perf_counter() + seconds, 0
            for rows in BATCHES:
                module(*(tensor[:rows] for tensor in example))  # first calls are slow
            while time.perf_counter() < until or min(map(len, samples_ms.values())) < FEWEST:
                for rows in BATCHES:
                    place = (place + rows) % (ROWS - BATCHES[-1])
                    inputs = [tensor[place : place + rows] for tensor in example]
                    start = time.perf_counter()
                    module(*inputs)
                    samples_ms[rows].append(1e3 * (time.perf_counter() - start))
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
    return curve(BATCHES, [samples_ms[rows] for rows in BATCHES])
