"""What may be set of a build without cutting it again, and which settings there are to choose from. Pure."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit.plan.plan import Form, Plan

#: Rows of a batch that are worth a try: DeepRecSched's steps, up to the largest query of its load generator.
BATCHES = (32, 64, 128, 256, 512, 1024)
#: What Triton may wait for company, us.
DELAYS_US = (0, 500, 2000)


@dataclass(frozen=True)
class Setting:
    """How the parts of a build are served.

    `max_batch_size`: rows that an instance takes at once, and the most that clients ask for in one request: it is what larger queries are
    split at. `threads`: of each instance. A fused model has as many instances as the embedding model, and the dense model's say nothing.
    """

    form: Form
    embedding_instances: int
    dense_instances: int
    threads: int
    max_batch_size: int
    queue_delay_us: int

    @property
    def canonical(self) -> "Setting":
        """The same with what says nothing at 1: equal settings are equal then."""
        return dataclasses.replace(self, dense_instances=1) if self.form == "fused" else self

    def __str__(self) -> str:
        count = "" if self.form == "fused" else f"+{self.dense_instances}"
        delay = f", waits {self.queue_delay_us} us" if self.queue_delay_us else ""
        threads = f" of {self.threads} threads" if self.threads > 1 else ""
        return f"{self.form}, batch {self.max_batch_size}, {self.embedding_instances}{count} instances{threads}{delay}"


def of_plan(plan: Plan) -> Setting:
    """What a build has. Raises InputError for a build in shards, whose servers are apart."""
    if plan.shards:
        raise InputError(f"{plan.name!r} is in shards, which are sized apart", hint="recsplit partition and recsplit control size them")
    return Setting(
        plan.form, plan.embedding.instances, plan.dense.instances, plan.embedding.threads, plan.max_batch_size, plan.queue_delay_us
    ).canonical


def changed(plan: Plan, setting: Setting, *, version: int, build: str) -> Plan:
    """The plan of the same parts, served as `setting` says. Raises InputError for a fused model of parts that the engine doesn't run."""
    if setting.form == "fused" and plan.form != "fused" and not can_fuse(plan):
        raise InputError(f"the parts of {plan.name!r} are not both the engine's", hint="build it with --embedding-runtime native")
    return dataclasses.replace(
        plan,
        version=version,
        build=build,
        form=setting.form,
        max_batch_size=setting.max_batch_size,
        queue_delay_us=setting.queue_delay_us,
        embedding=dataclasses.replace(plan.embedding, instances=setting.embedding_instances, threads=setting.threads),
        dense=dataclasses.replace(plan.dense, instances=setting.dense_instances, threads=setting.threads),
    )


def can_fuse(plan: Plan) -> bool:
    """Whether one model of the engine can run both parts."""
    return not plan.shards and len(plan.native) == len(plan.submodels)


@dataclass(frozen=True)
class Space:
    """The values of each setting that are tried, rising."""

    forms: tuple[Form, ...]
    instances: tuple[int, ...]
    threads: tuple[int, ...]
    batches: tuple[int, ...]
    delays_us: tuple[int, ...]

    def grid(self) -> Iterator[Setting]:
        """Every setting, once."""
        parts = itertools.product(self.forms, self.instances, self.instances, self.threads, self.batches, self.delays_us)
        return iter(dict.fromkeys(Setting(*values).canonical for values in parts))

    def __len__(self) -> int:
        return sum(1 for _ in self.grid())


def space_of(plan: Plan, cores: int) -> Space:
    """What is worth a try for a build on so many cores: no part has more instances, or an instance more threads, than there are cores.

    No batch is larger than the build's: the proof of bags and positions went no further, and the memory was planned for it.
    """
    present = of_plan(plan)
    upwards = [count for power in range(7) if (count := 2**power) < cores] + [cores]
    counts = tuple(sorted({*upwards, *(count for count in (present.embedding_instances, present.dense_instances) if count <= cores)}))
    batches = tuple(sorted({*(batch for batch in BATCHES if batch < plan.max_batch_size), plan.max_batch_size}))
    forms: tuple[Form, ...] = ("ensemble", "fused") if can_fuse(plan) else (plan.form,)
    threads = tuple(sorted({*counts, present.threads}))
    return Space(forms, counts, threads, batches, tuple(sorted({*DELAYS_US, present.queue_delay_us})))
