"""The config that Triton is given as an override, so that it changes instances in place and reloads nothing. Pure.

Triton updates in place where the config that comes differs from the one it has in `instance_group` alone. What it has is the config.pbtxt
as rendered, not the completed one that it tells of; hence every override is the rendered text with a few words changed
(core/src/model_repository_manager/model_lifecycle.cc, AsyncLoad).
"""

import re
from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from recsplit.errors import InputError
from recsplit.plan.files import BUILD_PARAMETER

THREADS = "intra_op_thread_count"
#: Instances are told apart by their group's settings. A host policy that nobody defined on the server's command line sets
#: nothing, and another one makes every instance a new one.
_POLICY = re.compile(r"recsplit_heal_(\d+)")


def read(text: str, origin: str) -> Any:
    """A config.pbtxt as a ModelConfig. Raises InputError where it is none, or where it doesn't have one instance group."""
    try:
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise InputError(f"{origin} is not a Triton model config: {error}", hint="recsplit build writes one") from error
    if len(config.instance_group) != 1:
        raise InputError(
            f"{origin} has {len(config.instance_group)} instance groups, and the controller changes the count of one",
            hint="leave one in it, or leave the model out of the targets",
        )
    return config


def count(config: Any) -> int:
    """Instances of a config: the sum of its groups."""
    return sum(group.count for group in config.instance_group)


def build(config: Any) -> str:
    """The id of the build that a config belongs to; "" where it has none."""
    return _parameter(config, BUILD_PARAMETER)


def policy(config: Any) -> str:
    """The host policy of a config's first instance group; "" where it has none."""
    return str(config.instance_group[0].host_policy) if config.instance_group else ""


def next_policy(present: str) -> str:
    """The host policy that heals instances which have `present`: all are replaced. Raises InputError where `present` is the user's."""
    matched = _POLICY.fullmatch(present)
    if present and matched is None:
        raise InputError(
            f"the instances have the host policy {present!r}, and can't be replaced without losing it", hint="restart the server"
        )
    return f"recsplit_heal_{int(matched[1]) + 1 if matched else 1}"


def override(rendered: Any, *, count: int, threads: int | None, policy: str) -> str:
    """The rendered config as JSON, with `count` instances of the host policy `policy`, and `threads` each (None: as rendered)."""
    changed = model_config_pb2.ModelConfig()
    changed.CopyFrom(rendered)
    changed.instance_group[0].count = count
    changed.instance_group[0].host_policy = policy
    if threads is not None:
        changed.parameters[THREADS].string_value = str(threads)
    return str(json_format.MessageToJson(changed, preserving_proto_field_name=True, indent=None))


def _parameter(config: Any, name: str) -> str:
    """A parameter's value. (Indexing the protobuf map would create it.)"""
    parameter = config.parameters.get(name)
    return "" if parameter is None else str(parameter.string_value)
