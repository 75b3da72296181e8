"""A profile as pools: what the simulator needs to stand in for the server that was measured."""

from collections.abc import Mapping

import numpy as np

from recsplit.capacity.profile import Profile
from recsplit.capacity.service import LEAST_MS, Service, measured
from recsplit.capacity.simulate import Cores, Pool
from recsplit.errors import InputError
from recsplit.plan import Role

#: The pool of everything outside the sub-models. It never waits for a free server.
WIRE = "wire"
_WIRE_SERVERS = 256
_MOST_CORES = 2.0  # Triton and the client; where next to nothing is left of the whole's time, the quotient says nothing


def pools(profile: Profile, instances: Mapping[Role, int]) -> tuple[Pool, ...]:
    """The wire, the embedding instances, the dense instances: in series, as the ensemble calls them.

    Sub-models batch up to max_batch_size and take the measured times of one alone, scatter included. The wire is what else a query
    takes (network, Triton itself, copies, the client), by its rows; of that it uses as much of a core as the profile saw. That use is a
    constant here and falls under load in truth, so close to saturation of the cores this is pessimistic. Raises InputError for fewer
    than one instance.
    """
    found = [_wire(profile)]
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
                float(part.threads),
            )
        )
    return tuple(found)


def cores(profile: Profile, count: float) -> Cores:
    """So many cores, whose neighbours slow each other as the profile's contended curves say."""
    ratios = [
        beside / alone
        for part in profile.parts
        if part.contended is not None
        for rows, alone in zip(part.alone.x, part.alone.median_ms, strict=True)
        for other, beside in zip(part.contended.x, part.contended.median_ms, strict=True)
        if rows == other
    ]
    return Cores(count, max(float(np.median(ratios)), 1.0) if ratios else 1.0)


def _wire(profile: Profile) -> Pool:
    """What of the whole's time is not the sub-models', and the cores that it uses meanwhile (more than one, where Triton and the
    client work side by side)."""
    rows = profile.whole.x
    largest = rows[-1]
    parts_ms = np.sum([measured(part.alone).table_ms(largest)[list(rows)] for part in profile.parts], axis=0)
    rest_ms = np.maximum(np.array(profile.whole.median_ms) - parts_ms, LEAST_MS)
    # All of it together: at sizes where little is left of the whole, the quotient of single points is noise.
    used = float(np.sum(profile.cpu_ms) / np.sum(rest_ms))
    return Pool(WIRE, (Service(rows, tuple(rest_ms.tolist())),) * _WIRE_SERVERS, cores=min(used, _MOST_CORES))
