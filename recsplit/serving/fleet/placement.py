"""How many servers of each part of a fleet run on one machine, and the model repositories that they serve.

Nothing is copied: a server's repository holds config files and links to the version folders of the build.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsplit.configs.fleet import Asking, bags_config, remote_config
from recsplit.configs.front import can_be_one, front_config, front_recipe
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.plan.files import BAGS_FILE, BUILD_FILE, CONFIG_FILE, RECIPE_FILE
from recsplit.plan.plan import Plan, Shard
from recsplit.repository.find import text_of

FRONT = "front"
#: Servers a core: one waits for the others most of the time. And what a server takes beside the rows, which all of them map.
_A_CORE = 2
_SERVER_BYTES = 300_000_000


@dataclass(frozen=True)
class Part:
    """One kind of server: "front", or the number of a shard that has servers of its own; `wanted` servers of it, `count` of them run."""

    name: str
    wanted: int
    count: int


def parts(plan: Plan, asked: Mapping[str, int], *, room: int | None = None) -> tuple[Part, ...]:
    """The parts of the fleet, the front last. `asked`: servers by part, taken as given; for the others the plan's, as far as they
    fit into `room` servers in all (None: what this machine can run), and never less than one.

    Raises InputError where the model is not partitioned, no shard has servers of its own, or `asked` names no part.
    """
    if not plan.shards:
        raise InputError(
            f"model {plan.name!r} is not partitioned, so there is no fleet to run",
            hint="recsplit partition makes a partition, and recsplit build --partition FILE a model of shards",
        )
    own_shards = {str(number): shard for number, shard in enumerate(plan.shards) if shard.location == "own"}
    if not own_shards:
        raise InputError("every shard is placed in the front server, so there is no fleet to run", hint="recsplit serve without --fleet")
    for name, count in asked.items():
        if name not in (FRONT, *own_shards):
            inside = name.isdecimal() and int(name) < len(plan.shards)
            problem = f"shard {name} is placed in the front server" if inside else f"the fleet has no part {name!r}"
            raise InputError(problem, hint=f"its parts are {', '.join((FRONT, *own_shards))}")
        if count < 1:
            raise InputError(f"{count} servers of {name!r} can't serve", hint="at least one of each part")
    replicas_by_part = {**{name: max(shard.replicas, 1) for name, shard in own_shards.items()}, FRONT: 1}
    counts = {
        **_fitting(
            {name: count for name, count in replicas_by_part.items() if name not in asked},
            (_room() if room is None else room) - sum(asked.values()),
        ),
        **asked,
    }
    return tuple(Part(name, replicas_by_part[name], counts[name]) for name in replicas_by_part)


def _room() -> int:
    """Servers that this machine can run."""
    available = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    memory = int(available[1]) * 1024 if available is not None else 0
    return int(min(_A_CORE * len(os.sched_getaffinity(0)), memory // _SERVER_BYTES))


def _fitting(replicas_by_part: Mapping[str, int], room: int) -> dict[str, int]:
    """As many of each as fit into `room` together, the largest given up first, and never less than one."""
    counts = dict(replicas_by_part)
    while sum(counts.values()) > max(room, len(counts)):
        largest = max(counts, key=lambda name: counts[name])
        counts[largest] -= 1
    return counts


def write_shard(repository: Path, plan: Plan, number: int, folder: Path) -> None:
    """The repository of a shard's own servers: its CSR form where the build wrote one, else the model as it is."""
    shard = plan.shards[number]
    text = _config(repository, shard.model.name)
    if has_bags(repository, plan, number):
        text = bags_config(plan, number, text)
    _link(repository, folder, shard.model.name, plan.version, text)


@dataclass(frozen=True)
class Address:
    """Where a server listens, host:port."""

    http: str
    grpc: str


def write_front(repository: Path, plan: Plan, addresses: Mapping[str, Sequence[Address]], folder: Path, asking: Asking) -> None:
    """The repository of the front servers, where shards elsewhere are at `addresses` by part: one model of the engine where that can be;
    else every model as it is, but those of shards elsewhere are remote.
    """
    if can_be_one(plan) and unavailable() is None:
        _write_one(repository, plan, addresses, folder, asking)
        return
    for name in (plan.name, plan.embedding.name, plan.dense.name, *(shard.model.name for shard in plan.shards if _local(shard))):
        _link(repository, folder, name, plan.version, _config(repository, name))
    for number, shard in enumerate(plan.shards):
        if not _local(shard):
            bags = has_bags(repository, plan, number)
            text = _config(repository, shard.model.name)
            replicas = [address.grpc for address in addresses[str(number)]]
            text = remote_config(plan, number, text, replicas, bags=bags, asking=asking)
            (folder / shard.model.name / str(plan.version)).mkdir(parents=True)
            (folder / shard.model.name / str(plan.version) / BUILD_FILE).write_text(f"{plan.build}\n")
            (folder / shard.model.name / CONFIG_FILE).write_text(text)


def _write_one(repository: Path, plan: Plan, addresses: Mapping[str, Sequence[Address]], folder: Path, asking: Asking) -> None:
    """A front that is one model: its recipe, and links to the version folders of the models that it runs."""
    own_folder = folder / plan.name / str(plan.version)
    own_folder.mkdir(parents=True)
    local = (plan.embedding, plan.dense, *(shard.model for shard in plan.shards if _local(shard)))
    for model in local:
        (own_folder / model.name).symlink_to((repository / model.name / str(plan.version)).resolve())
    replicas = {part: [address.http for address in there] for part, there in addresses.items()}
    text = front_recipe(plan, _config(repository, plan.embedding.name), replicas, asking)
    (own_folder / RECIPE_FILE).write_text(text, encoding="utf-8")
    (own_folder / BUILD_FILE).write_text(f"{plan.build}\n")
    (folder / plan.name / CONFIG_FILE).write_text(front_config(plan), encoding="utf-8")


def has_bags(repository: Path, plan: Plan, number: int) -> bool:
    """Whether the shard can be asked for bags: the pooling is plain, and the build wrote the CSR form."""
    return bool(plan.readings) and (repository / plan.shards[number].model.name / str(plan.version) / BAGS_FILE).is_file()


def _local(shard: Shard) -> bool:
    return shard.location == "front"


def _config(repository: Path, model: str) -> str:
    return text_of(repository / model / CONFIG_FILE)


def _link(repository: Path, folder: Path, model: str, version: int, text: str) -> None:
    (folder / model).mkdir(parents=True)
    (folder / model / CONFIG_FILE).write_text(text, encoding="utf-8")
    (folder / model / str(version)).symlink_to((repository / model / str(version)).resolve())
