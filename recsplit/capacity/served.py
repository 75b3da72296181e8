"""A profile as pools: what the simulator needs to stand in for the server that was measured."""

from collections.abc import Mapping

import numpy as np

from recsplit.capacity.profile import Profile, fit
from recsplit.capacity.service import LEAST_MS, Service, measured
from recsplit.capacity.simulate import Cores, Pool
from recsplit.errors import InputError
from recsplit.plan import Role

#: The pools outside the sub-models. They never wait for a free server.
WIRE, WAKE_UPS = "wire", "wake-ups"
OUTSIDE = (WIRE, WAKE_UPS)
_MANY = 256


def pools(profile: Profile, instances: Mapping[Role, int]) -> tuple[Pool, ...]:
    """The wire, wake-ups, the embedding instances, the dense instances: in series, as the ensemble calls them.

    Sub-models batch up to max_batch_size and take the measured times of one alone on one core, scatter included: more threads share
    that work, they don't lessen it. The wire is the processor time
    that Triton and the client spend on a query, by its rows; wake-ups are what is left of its latency, in which nobody computes.
    Raises InputError for fewer than one instance.
    """
    found = _outside(profile)
    for role in ("embedding", "dense"):
        part, count = profile.part(role), instances.get(role, profile.part(role).instances)
        if count < 1:
            raise InputError(f"{count} {role} instances serve nobody", hint="give one or more")
        found.append(
            Pool(
                role,
                (measured(part.alone),) * count,
                profile.max_batch_size,
                profile.queue_delay_us / 1e3,
                (found[-1].name,),
            )
        )
    return tuple(found)


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


def _outside(profile: Profile) -> list[Pool]:
    """What of the whole's time is not the sub-models': what Triton and the client compute, and what is left.

    The processor time of single sizes is noisy, so a line through it stands for it.
    """
    rows = profile.whole.x
    line = fit(rows, [[value] for value in profile.cpu_ms])
    busy_ms = np.maximum([line.ms(count) for count in rows], LEAST_MS)
    parts_ms = np.sum([measured(part.alone).table_ms(rows[-1])[list(rows)] for part in profile.parts], axis=0)
    idle_ms = np.maximum(np.array(profile.whole.median_ms) - parts_ms - busy_ms, LEAST_MS)
    return [
        Pool(WIRE, (Service(rows, tuple(busy_ms.tolist())),) * _MANY),
        Pool(WAKE_UPS, (Service(rows, tuple(idle_ms.tolist())),) * _MANY, after=(WIRE,), cores=0.0),
    ]
