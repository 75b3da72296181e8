"""The cores budget: instances of one machine share its cores, so one target's gain is another's loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsplit_controller.settings import Target

#: A unit that is there counts for this many times one that would be new, so that units don't wander to and fro with the noise.
STICKY = 1.25


@dataclass(frozen=True)
class Claim:
    """What the guard would give a target: `wanted` units, `present` so far, `need` by its policy; `held`: none may be taken away."""

    wanted: int
    present: int
    need: float
    held: bool


def fit(targets: Sequence[Target], claims: Mapping[str, Claim], cores: float) -> Mapping[str, int]:
    """Counts of the claims' targets whose units take no more than `cores`, by taking units from those that need theirs least.

    Need is what the policy wished for each unit that would be left. Minima stay, and so do the present units of those that are held,
    even where the budget is too small for them.
    """
    sized = {target.name: target for target in targets if target.name in claims}
    counts = {name: claims[name].wanted for name in sized}
    total = sum(counts[name] * sized[name].cores for name in sized)
    while total > cores + 1e-9:
        free = [name for name in sized if counts[name] > _least(sized[name], claims[name])]
        if not free:
            break
        name = min(free, key=lambda name: _pressure(claims[name], counts[name]))
        counts[name] -= 1
        total -= sized[name].cores
    return counts


def _least(target: Target, claim: Claim) -> int:
    return max(target.minimum, min(claim.present, claim.wanted)) if claim.held else target.minimum


def _pressure(claim: Claim, count: int) -> float:
    """How hard it would be to have one unit less."""
    return claim.need / max(count - 1, 0.5) * (STICKY if count <= claim.present else 1.0)
