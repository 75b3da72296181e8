"""What the config says about the shard behind a remote model: where its replicas are, and how it is asked."""

import json
from dataclasses import dataclass
from typing import Any

PARAMETER = "recsplit.remote"


@dataclass(frozen=True)
class Bags:
    """One reading in CSR: the bags of `places` that lie in [first, last) go out, vectors of `dim` come back, for `output`.

    `number` is the reading's in the plan, and in the names of the shard's tensors.
    """

    number: int
    places: str
    output: str
    widths: tuple[int, ...]
    poolings: tuple[str, ...]
    first: int
    last: int
    dim: int


@dataclass(frozen=True)
class Remote:
    """The parameter `recsplit.remote`: model and version to ask, replicas as host:port, the bags (none: tensors are forwarded as they are).

    `hedge_ms` 0: never ask a second replica beside a slow one. `calls_at_once`: batches on their way, for each replica, before the
    next ones wait in Triton's queue and become one batch. `hold_error_ms`: an error is sent so much later, see model.py. `await_ms`: a
    front isn't ready before a replica has answered, and fails to start where none has by then; 0: it begins without.
    """

    model: str
    version: int
    replicas: tuple[str, ...]
    bags: tuple[Bags, ...]
    timeout_ms: int
    hedge_ms: int
    attempts: int
    probe_ms: int
    resolve_ms: int
    calls_at_once: int
    hold_error_ms: int
    await_ms: int = 0

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Remote":
        """Read it from a model's config; ValueError where it is absent or does not fit."""
        parameter = config.get("parameters", {}).get(PARAMETER)
        if parameter is None:
            raise ValueError(f"a model of backend 'remote' needs the parameter '{PARAMETER}', and '{config.get('name')}' has none")
        try:
            read = json.loads(parameter["string_value"])
            bags = tuple(
                Bags(**{**item, "widths": tuple(item["widths"]), "poolings": tuple(item["poolings"])}) for item in read.pop("bags")
            )
            remote = cls(**{**read, "replicas": tuple(read["replicas"]), "bags": bags})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"parameter '{PARAMETER}' can't be read: {error}") from error
        remote._check(config)
        return remote

    def _check(self, config: dict[str, Any]) -> None:
        if not self.replicas or not all(":" in replica for replica in self.replicas):
            raise ValueError(f"parameter '{PARAMETER}': replicas are host:port, at least one, and these are {list(self.replicas)}")
        least = {
            "version": 1,
            "timeout_ms": 1,
            "attempts": 1,
            "probe_ms": 1,
            "resolve_ms": 1,
            "calls_at_once": 1,
            "hedge_ms": 0,
            "hold_error_ms": 0,
            "await_ms": 0,
        }
        for name, bound in least.items():
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= bound):
                raise ValueError(f"parameter '{PARAMETER}': {name} is {getattr(self, name)!r}, and must be a number from {bound} on")
        if not self.bags:
            return
        inputs = {tensor["name"]: _elements(tensor) for tensor in config["input"]}
        outputs = {tensor["name"]: _elements(tensor) for tensor in config["output"]}
        if sorted(outputs) != sorted(bags.output for bags in self.bags):
            raise ValueError(f"parameter '{PARAMETER}' gives {[bags.output for bags in self.bags]}, and the outputs are {list(outputs)}")
        for bags in self.bags:
            if inputs.get(bags.places) != sum(bags.widths):
                raise ValueError(f"'{bags.places}' has {inputs.get(bags.places)} places a row, and its bags take {sum(bags.widths)}")
            if outputs[bags.output] != len(bags.widths) * bags.dim or len(bags.widths) != len(bags.poolings):
                raise ValueError(f"'{bags.output}' does not hold {len(bags.widths)} vectors of {bags.dim}")


def _elements(tensor: dict[str, Any]) -> int:
    """Elements a row; negative where they vary."""
    elements = 1
    for dim in tensor["dims"]:
        elements *= int(dim)
    return elements
