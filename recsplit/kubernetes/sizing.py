"""The first values: what a group's servers need, reckoned from the profile, the partition and the sizes of the files.

Where nothing was measured, ElasticRec's allocation is taken: the files plus 0.3 GB for the server (the least allocation that
reproduces the paper's memory figures).
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

from recsplit.capacity.profile import Profile
from recsplit.configs.fleet import Asking
from recsplit.errors import InputError
from recsplit.kubernetes.groups import Group, groups
from recsplit.kubernetes.values import Delivery, Front, Label, Overlay, Prometheus, Servers, ShardServers, Values
from recsplit.partition.partition_file import Partition
from recsplit.plan.plan import Plan, Shard
from recsplit.plan.triton_releases import IMAGE

LEAST_BYTES = 300_000_000
#: A `remote` model's process: Python, numpy and gRPC.
REMOTE_BYTES = 100_000_000
MIB = 1 << 20
#: Above what was measured: a server that reaches its limit is killed, and measured batches aren't the worst ones.
MARGIN = 1.25
#: A disk from which files are first read, and how long the slowest start is given beside that.
READ_BYTES_PER_S, START_S = 50_000_000, 120

SHARED_MIB = 256
FETCH_IMAGE = "rclone/rclone:1.69"


def first_values(
    plan: Plan,
    files_bytes: Mapping[str, int],
    *,
    profile: Profile | None = None,
    partition: Partition | None = None,
    rows: int | None = None,
    p95_bound_ms: float | None = None,
) -> Values:
    """Values for a plan that nobody has set yet.

    `files_bytes`: bytes of each model's files that serving needs. `rows`: of a usual query; a shard's largest rate is measured at
    that many. Raises InputError where profile or partition are those of another model.
    """
    _refuse_others(plan, profile, partition)
    if rows is not None and not 1 <= rows <= plan.max_batch_size:
        raise InputError(f"a query of {rows} rows is never one batch", hint=f"--rows takes 1 to {plan.max_batch_size}")
    front, *shards = groups(plan)
    name = dns_name(plan.name)
    return Values(
        name=name,
        image=IMAGE,
        engine=False,
        image_pull_secrets=(),
        user_id=1000,
        delivery=Delivery("volume", "models", "", None, FETCH_IMAGE, None),
        prometheus=Prometheus(
            "monitoring", (Label("app.kubernetes.io/name", "prometheus"),), "http://prometheus-operated.monitoring.svc:9090", (), 15
        ),
        autoscaler="hpa",
        asking=Asking(),
        front=Front(**_servers(plan, front, files_bytes, profile, 1), p95_bound_ms=p95_bound_ms, bound_share=0.65),
        shards=tuple(
            ShardServers(
                **_servers(plan, group, files_bytes, profile, group.shard.replicas),
                model=group.shard.model.name,
                max_qps=_max_qps(group.shard, profile, partition, rows),
                max_qps_share=0.8,
            )
            for group in shards
            if group.shard is not None
        ),
        dev=Overlay(f"{name}-dev", 1, 2, "ScheduleAnyway"),
        prod=Overlay(f"{name}-prod", 2, None, "DoNotSchedule"),
    )


def _servers(plan: Plan, group: Group, files_bytes: Mapping[str, int], profile: Profile | None, replicas: int) -> dict[str, Any]:
    """The fields of Servers for a group."""
    parts = {part.name: part for part in profile.parts} if profile is not None else {}
    server_bytes = profile.server_pss_bytes if profile is not None else LEAST_BYTES
    # Pages of tables that no query has touched yet aren't in the PSS: the files are the least that a part needs to stay in memory.
    models_bytes = sum(max(parts[name].pss_bytes if name in parts else 0, files_bytes[name]) for name in group.models)
    load_s = sum(parts[name].load_s for name in group.models if name in parts)
    servers = Servers(
        replicas=replicas,
        min_replicas=1,
        max_replicas=max(10, 2 * replicas),
        # The steps of a query take turns on the cores. Unmeasured, a part takes the threads that the build gave it; measured, an instance
        # that is busy takes its own cores, and one at the least: where it waits, Triton moves tensors for it.
        cpu=max(
            round(model.instances * (max(parts[model.name].cores, 1.0) if model.name in parts else float(model.threads)), 1)
            for model in plan.submodels
            if model.name in group.models
        ),
        memory_mib=math.ceil((server_bytes + models_bytes + REMOTE_BYTES * len(group.remote)) * MARGIN / MIB) + SHARED_MIB,
        shared_memory_mib=SHARED_MIB,
        startup_s=min(math.ceil(START_S + 3 * load_s + sum(files_bytes[name] for name in group.models) / READ_BYTES_PER_S), 86_400),
    )
    return dataclasses.asdict(servers)


def _max_qps(shard: Shard, profile: Profile | None, partition: Partition | None, rows: int | None) -> float | None:
    """Queries a second that one server of a shard sustains.

    As measured, where the profile has the shard and the rows of a query are known: one call after the other to each instance, as a
    client sees them, which counts what Triton does for a call as well. Calls that overlap may give more; nothing promises it. Else
    what the partition asks of each replica, which it sustains if the partition was right. Else None.
    """
    measured = [part for part in profile.parts if part.name == shard.model.name] if profile is not None else []
    if measured and rows is not None:
        part = measured[0]
        milliseconds = part.client.fit.ms(rows)
        if milliseconds > 0:
            return _three_digits(1000 * part.instances / milliseconds)
    if partition is not None:
        return _three_digits(partition.target_qps / shard.replicas)
    return None


def _three_digits(number: float) -> float:
    """Rounded down, so that nothing is promised that was not measured."""
    step = 10.0 ** (math.floor(math.log10(number)) - 2)
    return round(math.floor(number / step) * step, 12)


def _refuse_others(plan: Plan, profile: Profile | None, partition: Partition | None) -> None:
    if profile is not None and profile.model != plan.name:
        raise InputError(
            f"the profile is of {profile.model!r}, and the build is {plan.name!r}", hint="recsplit profile DIR measures this one"
        )
    if partition is not None and partition.model != plan.name:
        raise InputError(
            f"the partition is of {partition.model!r}, and the build is {plan.name!r}", hint="recsplit partition DIR makes one"
        )
    if partition is not None and len(partition.shards) != len(plan.shards):
        raise InputError(
            f"the partition has {len(partition.shards)} shards, and the build has {len(plan.shards)}",
            hint="build it with this partition: recsplit build SOURCE --partition FILE",
        )


def dns_name(name: str) -> str:
    """A name of Kubernetes objects for a model: at most 40 of a-z, 0-9 and '-', a letter first. Long names end in a digest."""
    plain = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    if not plain or not plain[0].isalpha():
        plain = f"m-{plain}".rstrip("-")
    if len(plain) > 40:
        plain = f"{plain[:33].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return plain
