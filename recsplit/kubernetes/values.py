"""The values: everything that a user may set about a build on Kubernetes, in one YAML file, read strictly.

Names and addresses only: credentials stay in the cluster's Secrets, which are named here.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from recsplit.configs.fleet import Asking
from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.strict_json import read, shown

SCHEMA = 1
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_DEEPEST = 50

#: A horizontal autoscaler does nothing while metric / target lies within 0.1 of 1.
TOLERANCE = 0.1

#: How a front asks a shard, where 0 means not at all.
_MAY_BE_ZERO = ("hedge_ms", "hold_error_ms")

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SECRET = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True)
class Label:
    """One label of Kubernetes."""

    key: str
    value: str


@dataclass(frozen=True)
class Delivery:
    """Where pods get the model repository from, and its checksums are checked.

    `volume`: the PersistentVolumeClaim `claim`, mounted read-only, the repository in its folder `path` ("" for its root).
    `objects`: rclone copies from `url` (a connection string such as ":s3,env_auth=true:bucket/models") with `image`; `secret`
    names a Secret of the cluster whose keys become environment variables, None where the pod's identity is enough.
    """

    kind: Literal["volume", "objects"]
    claim: str | None
    path: str
    url: str | None
    image: str
    secret: str | None


@dataclass(frozen=True)
class Prometheus:
    """Who scrapes: the namespace and labels of Prometheus' pods, its address for KEDA, and the labels by which it finds PodMonitors."""

    namespace: str
    pod_labels: tuple[Label, ...]
    address: str
    monitor_labels: tuple[Label, ...]
    scrape_interval_s: int


@dataclass(frozen=True)
class Servers:
    """The servers of one group: how many, and what each is given.

    `replicas` counts where nothing scales the group. `cpu`: cores requested; no limit is set, since throttling shows in the tail.
    `memory_mib`: request and limit, `shared_memory_mib` of /dev/shm included. `startup_s`: how long a start may take before the
    pod is started anew.
    """

    replicas: int
    min_replicas: int
    max_replicas: int
    cpu: float
    memory_mib: int
    shared_memory_mib: int
    startup_s: int


@dataclass(frozen=True)
class Front(Servers):
    """The front servers: replicas follow the 95th percentile of the ensemble's latency, with `bound_share` of `p95_bound_ms` as the target.

    No bound (None): nothing scales them. ElasticRec's share is 0.65.
    """

    p95_bound_ms: float | None
    bound_share: float


@dataclass(frozen=True)
class ShardServers(Servers):
    """The servers of one shard: replicas follow the queries a second that the front servers send to it.

    `max_qps`: the most that one server sustains, measured; the target is `max_qps_share` of it. None: nothing scales them.
    """

    model: str
    max_qps: float | None
    max_qps_share: float


@dataclass(frozen=True)
class Overlay:
    """One environment: its namespace, least and most replicas of every group (None: the group's own), how strictly zones are even."""

    namespace: str
    least_replicas: int
    most_replicas: int | None
    zone_spread: Literal["ScheduleAnyway", "DoNotSchedule"]


@dataclass(frozen=True)
class Values:
    """All of it.

    `name` begins the name of every object; `engine`: whether `image` has recsplit's engine, for models that were built for it; else its
    onnxruntime runs them. `autoscaler` says whose autoscalers the overlays take; `asking`: how a front asks a shard.
    """

    name: str
    image: str
    engine: bool
    image_pull_secrets: tuple[str, ...]
    user_id: int
    delivery: Delivery
    prometheus: Prometheus
    autoscaler: Literal["hpa", "keda"]
    asking: Asking
    front: Front
    shards: tuple[ShardServers, ...]
    dev: Overlay
    prod: Overlay
    schema: int = SCHEMA

    @property
    def shards_startup_s(self) -> int:
        """How long the slowest shard's servers may take to start: a front that starts with them waits for their first answer."""
        return max((shard.startup_s for shard in self.shards), default=0)


def from_yaml(text: str, *, origin: str = "values.yaml") -> Values:
    """Read values strictly.

    Raises InputError for broken YAML, another schema, an unknown, missing or ill-typed key, or a value that Kubernetes would refuse.
    """
    hint = f"delete {origin} to have it written anew"
    try:
        if max(itertools.accumulate(_STEPS[letter] for letter in text if letter in _STEPS), default=0) > _DEEPEST:
            raise RecursionError  # the parser takes time by the square of the depth, and libyaml's crashes
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that is none
        raise InputError(f"{origin} is not YAML: {_reason(error)}", hint=hint) from error
    except RecursionError as error:
        raise InputError(f"{origin} is nested too deeply", hint=hint) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{origin} has schema {shown(schema)}, and this recsplit reads schema {SCHEMA}", hint=hint)
    values = read(Values, data, origin, hint)
    assert isinstance(values, Values)
    problems = tuple(_problems(values))
    if problems:
        raise InputError(f"{origin}: {problems[0]}", hint=f"change it in {origin}")
    return values


def read_values(path: Path) -> Values:
    """Read the values in a file. Raises InputError as `from_yaml` does, and where there is no such text."""
    text = bounded.read_text(path, bounded.SETTINGS_BYTES, hint="delete it to have it written anew")
    return from_yaml(text, origin=str(path))


def _reason(error: Exception) -> str:
    """What is wrong and where, without the lines of the file that yaml shows around it."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it holds what is no value"
    return problem[:200] if mark is None else f"{problem[:200]}, line {mark.line + 1}, column {mark.column + 1}"


def within(servers: Servers, overlay: Overlay) -> Servers:
    """The group in one environment: its counts of replicas within the overlay's least and most, which win over the group's own."""
    ceiling = math.inf if overlay.most_replicas is None else overlay.most_replicas
    least = min(max(servers.min_replicas, overlay.least_replicas), ceiling)
    most = max(min(servers.max_replicas, ceiling), least)
    replicas = min(max(servers.replicas, least), most)
    return dataclasses.replace(servers, replicas=int(replicas), min_replicas=int(least), max_replicas=int(most))


def _problems(values: Values) -> Iterator[str]:
    """What Kubernetes would refuse, or would never do anything."""
    if not _DNS_LABEL.fullmatch(values.name):
        yield f"name is {values.name!r}: expected at most 40 of a-z, 0-9 and '-', a letter first"
    for key, text in (("image", values.image), ("delivery: image", values.delivery.image)):
        if not text or not text.isprintable() or " " in text:
            yield f"{key} is {text!r}: expected the name of a container image"
    for name in values.image_pull_secrets:
        if not _SECRET.fullmatch(name):
            yield f"image_pull_secrets: {name!r} can't name a Secret"
    if values.user_id < 1:
        yield f"user_id is {values.user_id}: expected the number of a user who isn't root"
    yield from _delivery(values.delivery)
    yield from _prometheus(values.prometheus)
    for key, number in dataclasses.asdict(values.asking).items():
        if number < (0 if key in _MAY_BE_ZERO else 1):
            yield f"asking: {key} is {number}: expected {0 if key in _MAY_BE_ZERO else 1} or more"
    yield from _servers("front", values.front)
    if values.front.p95_bound_ms is not None and not values.front.p95_bound_ms > 0:
        yield f"front: p95_bound_ms is {values.front.p95_bound_ms}: expected more than 0, or null"
    if not 0 < values.front.bound_share <= 1:
        yield f"front: bound_share is {values.front.bound_share}: expected more than 0 and at most 1"
    for shard in values.shards:
        yield from _servers(shard.model, shard)
        if shard.max_qps is not None and not shard.max_qps > 0:
            yield f"{shard.model}: max_qps is {shard.max_qps}: expected more than 0, or null"
        if not 0 < shard.max_qps_share * (1 + TOLERANCE) <= 1:
            yield (
                f"{shard.model}: max_qps_share is {shard.max_qps_share}: expected more than 0 and at most 0.9, since a full server never "
                "exceeds its maximum, and an autoscaler only acts at 1.1 of its target"
            )
    if values.dev.namespace == values.prod.namespace:
        yield f"dev and prod have the same namespace, {values.dev.namespace!r}"
    for name, overlay in (("dev", values.dev), ("prod", values.prod)):
        if not _NAMESPACE.fullmatch(overlay.namespace):
            yield f"{name}: {overlay.namespace!r} can't name a namespace"
        if overlay.least_replicas < 1:
            yield f"{name}: least_replicas is {overlay.least_replicas}: expected 1 or more"
        if overlay.most_replicas is not None and overlay.most_replicas < overlay.least_replicas:
            yield f"{name}: most_replicas is {overlay.most_replicas}: expected least_replicas ({overlay.least_replicas}) or more, or null"


def _delivery(delivery: Delivery) -> Iterator[str]:
    if delivery.kind == "volume" and (delivery.claim is None or not _SECRET.fullmatch(delivery.claim)):
        yield f"delivery: claim is {delivery.claim!r}: expected the name of a PersistentVolumeClaim"
    if delivery.kind == "objects" and (not delivery.url or not delivery.url.isprintable() or delivery.url.startswith("-")):
        yield f"delivery: url is {delivery.url!r}: expected rclone's name of a folder, such as ':s3,env_auth=true:bucket/models'"
    if re.search(r"(key|secret|pass|token)[^=,:]*=", delivery.url or "", re.IGNORECASE):
        yield "delivery: url holds what looks like a credential: put it into a Secret of the cluster, and that one's name into `secret`"
    if delivery.path.startswith("/") or ".." in delivery.path.split("/"):
        yield f"delivery: path is {delivery.path!r}: expected a folder inside the volume"
    if delivery.secret is not None and not _SECRET.fullmatch(delivery.secret):
        yield f"delivery: secret is {delivery.secret!r}: expected the name of a Secret"


def _prometheus(prometheus: Prometheus) -> Iterator[str]:
    if not _NAMESPACE.fullmatch(prometheus.namespace):
        yield f"prometheus: {prometheus.namespace!r} can't name a namespace"
    if not re.fullmatch(r"https?://[^\s]+", prometheus.address):
        yield f"prometheus: address is {prometheus.address!r}: expected a URL"
    if not 1 <= prometheus.scrape_interval_s <= 30:
        yield f"prometheus: scrape_interval_s is {prometheus.scrape_interval_s}: expected 1 to 30, two scrapes or more in a rate's minute"
    for field in ("pod_labels", "monitor_labels"):
        for label in getattr(prometheus, field):
            if not _LABEL_KEY.fullmatch(label.key) or not _LABEL_VALUE.fullmatch(label.value):
                yield f"prometheus: {field}: {label.key}={label.value} is no label"


def _servers(where: str, servers: Servers) -> Iterator[str]:
    if servers.min_replicas < 1 or servers.replicas < 1 or servers.max_replicas < servers.min_replicas:
        yield f"{where}: expected replicas and min_replicas of 1 or more, and max_replicas no less than min_replicas"
    if not 0.001 <= servers.cpu <= 1e6:
        yield f"{where}: cpu is {servers.cpu}: expected 0.001 cores or more"
    if servers.shared_memory_mib < 1 or servers.memory_mib <= servers.shared_memory_mib:
        yield f"{where}: expected shared_memory_mib of 1 or more, and a memory_mib above it"
    if not 1 <= servers.startup_s <= 86_400:
        yield f"{where}: startup_s is {servers.startup_s}: expected 1 to 86400"
