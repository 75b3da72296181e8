"""Groups of servers: which models of a plan run together in one kind of pod.

The front servers hold the ensemble, the embedding model, the dense model and the shards whose location is the front; every other shard
has servers of its own, as in ElasticRec (ISCA 2024, figure 7), and a model of the backend `remote` stands for it in the front.
"""

import hashlib
import re
from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit.plan.plan import Plan, Shard

FRONT = "front"

#: Kubernetes' rule for label values, which model names become in selectors of metrics.
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Group:
    """Servers that hold the same models.

    `name` is "front" or "shard-<k>"; `models` are those that its servers load from files, `remote` those that they forward.
    `shard` is the shard that a group of its own serves. `build` is a short name of the build. Where groups ask each other (`mixable`
    false), its servers are never those of another build: a front that asks another build's shards would get rows of other ids.
    """

    name: str
    models: tuple[str, ...]
    remote: tuple[str, ...]
    gpu: bool
    shard: Shard | None
    build: str
    mixable: bool


def groups(plan: Plan) -> tuple[Group, ...]:
    """The groups of a plan, the front first, then the shards with servers of their own in the plan's order.

    Raises InputError for a model's name that can't be a label value on Kubernetes.
    """
    for name in (plan.name, *(model.name for model in plan.submodels)):
        if not _LABEL.fullmatch(name):
            raise InputError(
                f"the model name {name!r} can't be a label on Kubernetes, and autoscalers select metrics by it",
                hint="build it with a --name that leaves at most 63 characters, the last one a letter or digit",
            )
    apart = [shard for shard in plan.shards if shard.location == "own"]
    remote = {shard.model.name for shard in apart}
    here = [model for model in plan.submodels if model.name not in remote]
    short, mixable = _short(plan.build), not apart
    front = Group(
        FRONT,
        (plan.name, *(model.name for model in here)),
        tuple(shard.model.name for shard in apart),
        any(model.kind == "gpu" for model in here),
        None,
        short,
        mixable,
    )
    shard_groups = (
        Group(f"shard-{number}", (shard.model.name,), (), shard.model.kind == "gpu", shard, short, mixable)
        for number, shard in enumerate(plan.shards)
        if shard.location == "own"
    )
    return (front, *shard_groups)


def _short(build: str) -> str:
    """Eight characters for names and labels: the first ones of a random id, a digest of any other."""
    return build[:8] if re.fullmatch("[0-9a-f]{16}", build) else hashlib.sha256(build.encode()).hexdigest()[:8]
