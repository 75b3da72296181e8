"""A profile as pools: what the simulator needs to stand in for the server that was measured."""

from collections.abc import Mapping

import numpy as np

from recsplit.capacity.events import LEAST_MS
from recsplit.capacity.profile import Profile, fit
from recsplit.capacity.service import Service, measured
from recsplit.capacity.simulate import Cores, Floats, Pool
from recsplit.errors import InputError
from recsplit.plan.plan import Role

#: The pools outside the sub-models. They never wait for a free server.
WIRE, WAKE_UPS = "wire", "wake-ups"
OUTSIDE = (WIRE, WAKE_UPS)
_MANY = 256
#: Draws to tell the median of a sum from: about 2 % of its spread.
_DRAWS = 4096


def pools(profile: Profile, instances: Mapping[Role, int]) -> tuple[Pool, ...]:
    """The wire, wake-ups, the embedding instances, the dense instances: in series, as the ensemble calls them.

    Sub-models batch up to max_batch_size and take the measured times of one alone on one core, scatter included: more threads share
    that work, they don't lessen it. The wire is the processor time
    that Triton and the client spend on a query, by its rows; wake-ups are what is left of its latency, in which nothing is computed.
    Raises InputError for fewer than one instance, and for the profile of a sharded model, whose shards run side by side.
    """
    if any(part.role == "shard" for part in profile.parts):
        raise InputError(f"{profile.model!r} is sharded, and the simulator has no pools for shards", hint="profile it built without shards")
    stages = outside(profile)
    for role in ("embedding", "dense"):
        part, count = profile.part(role), instances.get(role, profile.part(role).instances)
        if count < 1:
            raise InputError(f"{count} {role} instances serve nobody", hint="give one or more")
        stages.append(
            Pool(
                role,
                (measured(part.alone),) * count,
                profile.max_batch_size,
                profile.queue_delay_us / 1e3,
                (stages[-1].name,),
                cores=part.cores,
            )
        )
    return tuple(stages)


def cores(profile: Profile, count: float | None = None) -> Cores:
    """So many cores (by default as many as it was measured on), whose neighbours slow each other as the contended curves say."""
    if count is None:
        count = float(profile.provenance.get("machine", {}).get("cores", 1))
    ratios = [
        beside / alone
        for part in profile.parts
        if part.contended is not None
        for rows, alone in zip(part.alone.x, part.alone.median_ms, strict=True)
        for other, beside in zip(part.contended.x, part.contended.median_ms, strict=True)
        if rows == other
    ]
    return Cores(count, max(float(np.median(ratios)), 1.0) if ratios else 1.0)


def outside(profile: Profile) -> list[Pool]:
    """What of the whole's time is not the sub-models': what Triton and the client compute, and what is left.

    The processor time of single sizes is noisy, so a line through it stands for it. What the whole's latencies vary more than the
    sub-models' times varies in the wake-ups.
    """
    rows = profile.whole.x
    line = fit(rows, [[value] for value in profile.cpu_ms])
    busy_ms = [max(line.ms(count), LEAST_MS) for count in rows]
    idle_ms = [_waking_ms(profile, count, busy) for count, busy in zip(rows, busy_ms, strict=True)]
    middle_ms = [float(np.median(times_ms)) for times_ms in idle_ms]
    spreads_ms = tuple(tuple((times_ms - middle).tolist()) for times_ms, middle in zip(idle_ms, middle_ms, strict=True))
    return [
        Pool(WIRE, (Service(rows, tuple(busy_ms)),) * _MANY),
        Pool(WAKE_UPS, (Service(rows, tuple(middle_ms), spreads_ms),) * _MANY, after=(WIRE,), cores=0.0),
    ]


def _waking_ms(profile: Profile, rows: int, busy_ms: float) -> Floats:
    """Times of waking up that, beside the sub-models' and `busy_ms`, give the whole the median and variance that were measured."""
    rng = np.random.default_rng(0)
    whole_ms = np.asarray(profile.whole.samples_ms[profile.whole.x.index(rows)])
    parts_ms, variance = np.full(_DRAWS, busy_ms), 0.0
    for part in profile.parts:
        service = measured(part.alone)
        spreads_ms = np.asarray(service.spreads_ms[service.nearest(rows)[rows]])
        samples_ms = np.maximum(float(service.table_ms(rows)[rows]) + spreads_ms, LEAST_MS)
        parts_ms += rng.choice(samples_ms, _DRAWS)
        variance += float(samples_ms.var())
    share = max(1.0 - variance / float(whole_ms.var()), 0.0) if whole_ms.var() > 0 else 0.0
    spread_ms = np.sqrt(share) * (whole_ms - np.median(whole_ms))
    idle_ms = float(np.median(whole_ms) - np.median(parts_ms + rng.choice(spread_ms, _DRAWS)))
    times_ms: Floats = np.maximum(idle_ms + spread_ms, LEAST_MS)
    return times_ms
