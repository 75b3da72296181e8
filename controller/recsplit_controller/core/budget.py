"""The cores budget: instances of one machine share its cores, so one target's gain is another's loss."""

import dataclasses
import heapq
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from recsplit_controller.core.elapsed import begun
from recsplit_controller.core.memory import Held
from recsplit_controller.values.decision import Decision
from recsplit_controller.values.settings import Settings, Target

#: A unit that is there counts for this many times one that would be new, so that units don't wander to and fro with the noise.
STICKY = 1.25


@dataclass(frozen=True)
class Claim:
    """What the guard would give a target: `wanted` units, `present` so far, `need` by its policy; `held`: none may be taken away.

    `threads` that a unit has now; None: as rendered, which is what the target's `cores` say.
    """

    wanted: int
    present: int
    need: float
    held: bool
    threads: int | None = None


@dataclass(frozen=True)
class Share:
    """What a target is given."""

    count: int
    threads: int | None


def fit(targets: Sequence[Target], claims: Mapping[str, Claim], cores: float, *, fewer_threads: bool = True) -> Mapping[str, Share]:
    """Shares of the claims' targets that take no more than `cores`.

    First threads go (`fewer_threads`), where the units would do with fewer: a thread fewer makes a unit slower by no more than its share
    of the threads. Then units go, from those that need theirs least: need is what the policy wished for each unit that would be left.
    Minima stay, and so do the present units of those that are held, even where the budget is too small for them.
    """
    sized = {target.name: target for target in targets if target.name in claims}
    counts = {name: claims[name].wanted for name in sized}
    sizes = {name: float(claims[name].threads or target.cores) for name, target in sized.items()}
    excess = sum(counts[name] * sizes[name] for name in sized) - cores
    threads = {name: claims[name].threads for name in sized}
    for name in sorted(sized, key=lambda name: claims[name].need / counts[name]):
        claim, may = claims[name], fewer_threads and not claims[name].held
        while excess > 1e-9 and may and sizes[name] >= 2 and _spared(sized[name], claim, counts[name], sizes[name]):
            sizes[name] = threads[name] = int(sizes[name]) - 1
            excess -= counts[name]
    order = {name: place for place, name in enumerate(sized)}
    least = {name: _least(sized[name], claims[name]) for name in sized}
    queue = [(_pressure(claims[name], counts[name]), order[name], name) for name in sized if counts[name] > least[name]]
    heapq.heapify(queue)
    while excess > 1e-9 and queue:
        _, _, name = heapq.heappop(queue)
        counts[name] -= 1
        excess -= sizes[name]
        if counts[name] > least[name]:
            heapq.heappush(queue, (_pressure(claims[name], counts[name]), order[name], name))
    return {name: Share(counts[name], threads[name]) for name in sized}


def budgeted(
    settings: Settings, targets: Sequence[Target], before: Mapping[str, Held], decisions: Sequence[Decision], keep: Set[str] = frozenset()
) -> tuple[Mapping[str, Held], tuple[Decision, ...]]:
    """The decisions with what doesn't fit into the settings' budget taken out, and what to remember of their threads. From the targets in
    `keep` nothing is taken that they have.

    Threads come back when there has been room for them for `downscale_delay_s`: changing them loads the model anew.
    """
    if settings.cores is None:
        return {}, tuple(decisions)
    sharing = [target for target in targets if target.in_server]
    claims = _claims(sharing, before, decisions, keep)
    shares = dict(fit(sharing, claims, settings.cores))
    room = settings.cores - sum(share.count * (share.threads or target.cores) for target, share in _pairs(sharing, shares))
    kept: dict[str, Held] = {}
    decided = {decision.target for decision in decisions if decision.threads is not None}  # by the policy
    for target, share in _pairs(sharing, shares):
        was, at_s = before.get(target.name, Held()), decisions[0].at_s
        more = 0.0 if share.threads is None else share.count * (target.cores - share.threads)
        given_up = share.threads is not None and share.threads == was.threads and target.name not in decided
        room_s = begun(was.room_s or at_s, at_s) if given_up and more <= room + 1e-9 else None
        if room_s is not None and at_s - room_s >= settings.downscale_delay_s:
            room -= more
            share = Share(share.count, None)
            room_s = None
        shares[target.name] = share
        kept[target.name] = Held(threads=share.threads, room_s=room_s)
    return kept, tuple(_told(decision, shares.get(decision.target), settings.cores) for decision in decisions)


def _claims(sharing: Sequence[Target], before: Mapping[str, Held], decisions: Sequence[Decision], keep: Set[str]) -> Mapping[str, Claim]:
    names = {target.name for target in sharing}
    claims = {}
    for decision in decisions:
        if decision.target in names and decision.wanted is not None:
            was = before.get(decision.target, Held())
            present = decision.count.present or decision.wanted
            need = decision.wish if decision.wish is not None else float(present)
            held = decision.saturated or decision.wish is None or decision.target in keep
            threads = was.threads if decision.threads is None else decision.threads
            claims[decision.target] = Claim(decision.wanted, present, need, held, threads)
    return claims


def _pairs(sharing: Sequence[Target], shares: Mapping[str, Share]) -> Sequence[tuple[Target, Share]]:
    return [(target, shares[target.name]) for target in sharing if target.name in shares]


def _told(decision: Decision, share: Share | None, cores: float) -> Decision:
    if share is None or (share.count, share.threads) == (decision.wanted, decision.threads):
        return decision
    reason = decision.reason
    if share.count != decision.wanted:
        reason += f"; {decision.wanted} would not fit into {cores:.3g} cores"
    if share.threads is not None:
        reason += f"; of {share.threads} threads, for others need the cores"
    return dataclasses.replace(decision, wanted=share.count, threads=share.threads, reason=reason)


def _spared(target: Target, claim: Claim, count: int, size: float) -> bool:
    """Whether as many units would do with a thread fewer each than `size`."""
    return target.cores == int(target.cores) and claim.need * (claim.threads or target.cores) / (size - 1) <= count


def _least(target: Target, claim: Claim) -> int:
    return max(target.minimum, min(claim.present, claim.wanted)) if claim.held else target.minimum


def _pressure(claim: Claim, count: int) -> float:
    """How hard it would be to have one unit less."""
    return claim.need / max(count - 1, 0.5) * (STICKY if count <= claim.present else 1.0)
