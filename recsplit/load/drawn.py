"""Whether a factory draws its parameters at random: then nothing was trained, and what would be published is noise."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import torch

#: A second call must cost next to nothing.
_MOST_BYTES, _MOST_S = 64 << 20, 2.0


def warnings(factory: Callable[[], Any], module: torch.nn.Module, took_s: float) -> tuple[str, ...]:
    """A warning where a second call of the factory, whose first took `took_s` seconds and made `module`, makes other parameters.

    It is called again only where that is cheap, and what it prints or raises then is nobody's concern.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    if size > _MOST_BYTES or took_s > _MOST_S:
        return ()
    try:
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(sys.stderr):
            again = factory()[0]
        others = dict(again.named_parameters())
    except (Exception, SystemExit):  # the user's own
        return ()
    for name, parameter in module.named_parameters():
        other = others.get(name)
        if other is None or other.shape != parameter.shape or other.device != parameter.device or parameter.is_meta:
            return ()
        if not torch.equal(parameter, other):
            return (f"no --weights: the factory's own values are published, and {name!r} is another at each call, as random values are",)
    return ()
