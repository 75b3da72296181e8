"""What a served model takes and gives: read from the config that the server reports."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recsplit.errors import RecsplitError
from recsplit.plan.files import CLIENT_PARAMETER, LOOKUPS_PARAMETER
from recsplit.plan.plan import Bags, Tensor


@dataclass(frozen=True)
class Signature:
    """A model as its clients see it. Dims leave out the batch dimension, except where max_batch_size is 0: then there is none."""

    model: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    optional: frozenset[str]  # inputs that may be left out
    outputs: tuple[str, ...]
    flat: frozenset[str]  # outputs of one number a row: the module gives [batch], and Triton, which has no empty dims, [batch, 1]
    steps: tuple[str, ...]  # an ensemble's models, any other model itself
    bags: tuple[Bags, ...]


@dataclass
class Known:
    """What a client has read from the server of the model that it asks; None: not yet, or no longer, since another build answers."""

    signature: Signature | None = None
    lookups: list[dict[str, Any]] | None = None
    version: int | None = None

    def answered(self, version: int) -> None:
        """Take note of which version of the model answered."""
        if self.version is not None and version != self.version:
            self.signature = self.lookups = None
        self.version = version


def read(config: Mapping[str, Any]) -> Signature:
    """A signature from a model config, as tritonclient's `get_model_config` gives it for HTTP, or for gRPC with as_json.

    Raises RecsplitError where another version of recsplit wrote the parameter recsplit.client.
    """
    parameter = _parameter(config, CLIENT_PARAMETER)
    inputs = config.get("input", [])
    return Signature(
        model=config["name"],
        max_batch_size=int(config.get("max_batch_size", 0)),
        inputs=tuple(Tensor(item["name"], item["data_type"].removeprefix("TYPE_"), _dims(item["dims"])) for item in inputs),
        optional=frozenset(item["name"] for item in inputs if item.get("optional")),
        outputs=tuple(item["name"] for item in config.get("output", [])),
        steps=tuple(step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", [])) or (config["name"],),
        flat=frozenset() if parameter is None else frozenset(parameter.get("flat", ())),
        bags=() if parameter is None else tuple(_bags(item, config["name"]) for item in parameter["bags"]),
    )


def lookups(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lookups that an embedding model's config names; none for any other model."""
    parameter = _parameter(config, LOOKUPS_PARAMETER)
    return [] if parameter is None else list(parameter)


def _parameter(config: Mapping[str, Any], key: str) -> Any:
    """The JSON in a parameter of the config; None where the config has no such parameter."""
    parameter = config.get("parameters", {}).get(key)
    return None if parameter is None else json.loads(parameter["string_value"])


def _bags(item: Mapping[str, Any], model: str) -> Bags:
    try:
        return Bags(**{**item, "features": tuple(item["features"])})
    except (KeyError, TypeError) as error:
        raise RecsplitError(
            f"model {model!r} describes its ragged inputs in a form that this recsplit does not read: {error}",
            hint="use the version of recsplit that built the model, or build it again",
        ) from error


def _dims(dims: Iterable[int | str]) -> tuple[int, ...]:
    return tuple(int(dim) for dim in dims)  # JSON made from protobuf holds 64-bit numbers as strings
