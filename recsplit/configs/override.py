"""The config that a running Triton is given with a load call, in place of config.pbtxt: the rendered text with a few words changed. Pure.

Triton updates a model in place where the config that comes differs from the one it has in `instance_group` and `version_policy` alone
(core/src/model_repository_manager/model_lifecycle.cc, AsyncLoad). Anything else is a reload: the model is loaded beside the one that
serves, takes its place, and the old one ends when its last request is answered. What Triton has is the config as it was given, not
the completed one that it tells of; hence every override is made of the rendered text.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from recsplit.configs.check import parameter, parse
from recsplit.errors import InputError
from recsplit.plan.files import THREADS_PARAMETER

#: Instances are told apart by their group's settings. A host policy that nobody defined on the server's command line sets
#: nothing, and another one makes every instance a new one.
_POLICY = re.compile(r"recsplit_heal_(\d+)")


@dataclass(frozen=True)
class Served:
    """What a server was told of a model beyond its rendered config.

    `count` instances of the host policy `policy` ("": none), with `threads` each (None: as rendered); `versions`: those that are to
    be served.
    """

    count: int
    policy: str
    threads: int | None
    versions: tuple[int, ...]


def read(text: str, origin: str) -> Any:
    """A config.pbtxt as a ModelConfig. Raises InputError where it is none, or where it doesn't have one instance group."""
    config = parse(text, origin=origin)
    if len(config.instance_group) != 1:
        raise InputError(
            f"{origin} has {len(config.instance_group)} instance groups, and the controller changes the count of one",
            hint="leave one in it, or leave the model out of the targets",
        )
    return config


def count(config: Any) -> int:
    """Instances of a config: the sum of its groups."""
    return sum(group.count for group in config.instance_group)


def served(config: Any, versions: Iterable[int]) -> Served:
    """What a config that a server tells of says beyond the rendered one; `versions` are those that it says are ready.

    The config itself tells those that were named when the model was last loaded anew: a change in place leaves that text as it was.
    """
    threads = parameter(config, THREADS_PARAMETER)
    return Served(
        count=count(config),
        policy=str(config.instance_group[0].host_policy) if config.instance_group else "",
        threads=int(threads) if threads and threads.isdecimal() else None,
        versions=tuple(sorted(versions)),
    )


def next_policy(present: str) -> str:
    """The host policy that heals instances which have `present`: all are replaced. Raises InputError where `present` is the user's."""
    matched = _POLICY.fullmatch(present)
    if present and matched is None:
        raise InputError(
            f"the instances have the host policy {present!r}, and can't be replaced without losing it", hint="restart the server"
        )
    return f"recsplit_heal_{int(matched[1]) + 1 if matched else 1}"


def override(rendered: Any, served: Served) -> str:
    """The rendered config as JSON, with what is to be served in place of its own instances, threads and versions."""
    changed = model_config_pb2.ModelConfig()
    changed.CopyFrom(rendered)
    changed.instance_group[0].count = served.count
    changed.instance_group[0].host_policy = served.policy
    if served.threads is not None:
        changed.parameters[THREADS_PARAMETER].string_value = str(served.threads)
    if served.versions:
        changed.version_policy.specific.versions[:] = served.versions
    return str(json_format.MessageToJson(changed, preserving_proto_field_name=True, indent=None))
