"""Targets of one group stand in for each other: what holds for all of them together. Pure. A target without a group is one of its own.

Make before break: capacity is given up only as far as what serves then still is what was wished for, and a target keeps what the router's
present share of the requests needs. The router follows what serves.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsplit_controller.core.budget import Claim, fit
from recsplit_controller.core.units import whole
from recsplit_controller.values.decision import Decision, Wish
from recsplit_controller.values.observation import Observation
from recsplit_controller.values.settings import GroupBounds, Settings, Target


@dataclass(frozen=True)
class Sums:
    """Of a group, in queries a second where every target's `max_qps` is known, else in units. `present`: what was asked for; `serving`:
    what answers; `moved`: what the wishes would change, `gained` of it in whole units more, `lost` fewer; `wished`: what they come to.
    `sizes`: what a unit of each target is. `tolerance`: a smaller share of `present` isn't moved.
    """

    sizes: Mapping[str, float]
    tolerance: float
    present: float
    serving: float
    moved: float
    gained: float
    lost: float
    wished: float

    def part_gained(self, target: Target, units: int) -> float:
        """The part that so many units more of a target have in what the group gains."""
        return units * self.sizes[target.name] / self.gained if self.gained else 0.0

    def part_lost(self, target: Target, units: int) -> float:
        """The part that so many units fewer have in what it loses."""
        return units * self.sizes[target.name] / self.lost if self.lost else 0.0


def groups_of(targets: Sequence[Target]) -> Sequence[Sequence[Target]]:
    """The targets by group, in their order."""
    by_group: dict[str, list[Target]] = {}
    for target in targets:
        # A target's own name may be a group's too.
        key = f"target {target.name}" if target.group is None else f"group {target.group}"
        by_group.setdefault(key, []).append(target)
    return list(by_group.values())


def bounds_of(settings: Settings, target: Target) -> GroupBounds:
    """The bounds of a target's group."""
    return GroupBounds() if target.group is None else settings.groups.get(target.group, GroupBounds())


def sums(settings: Settings, group: Sequence[Target], observation: Observation, wishes: Mapping[str, Wish]) -> Sums | None:
    """A group's sums; None where not all of it is known."""
    measured = all(target.max_qps is not None for target in group)
    sizes = {target.name: float(target.max_qps or 1.0) if measured else 1.0 for target in group}
    tolerance = bounds_of(settings, group[0]).tolerance
    present = serving = moved = gained = lost = wished = 0.0
    for target in group:
        count, wish, size = observation.count(target.name), wishes.get(target.name), sizes[target.name]
        if wish is None or count.present is None or count.serving is None:
            return None
        units = min(max(wish.units, target.minimum), target.maximum)
        present += size * count.present
        serving += size * count.serving
        moved += size * abs(units - count.present)
        gained += size * max(0, whole(units) - count.present)
        lost += size * max(0, count.present - whole(units))
        wished += size * whole(units)
    return Sums(sizes, settings.tolerance if tolerance is None else tolerance, present, serving, moved, gained, lost, wished)


def settled(
    settings: Settings, group: Sequence[Target], known: Sums, decisions: Sequence[Decision], wishes: Mapping[str, Wish]
) -> Sequence[Decision]:
    """The decisions on a group's targets within its bounds, in an order that leaves enough, with the router's weights for now."""
    bounds = bounds_of(settings, group[0])
    within, need = list(decisions), known.wished
    if bounds.cores is not None:
        within = _within_cores(group, bounds.cores, within)
        if list(within) != list(decisions):
            need = min(need, sum(known.sizes[each.target] * (each.wanted or 0) for each in within))
    within = _at_least(group, bounds.minimum, within)
    weights = _weights(group, within, wishes)
    within = [dataclasses.replace(each, weight=weights.get(each.target)) for each in within]
    spare = known.serving - need
    after = []
    for each in within:
        kept, note = _kept(each, known.sizes[each.target], spare, need)
        serving = each.count.serving or 0
        spare -= known.sizes[each.target] * max(0, serving - kept)
        after.append(dataclasses.replace(each, wanted=kept, reason=f"{each.reason}; {note}") if note else each)
    return after


def _kept(decision: Decision, size: float, spare: float, need: float) -> tuple[int, str]:
    """How many of a target's units are wanted for now, and why that is more than were decided on."""
    present, serving, wanted = decision.count.present, decision.count.serving, decision.wanted
    assert present is not None and serving is not None and wanted is not None
    if wanted >= present:
        return wanted, ""
    routed = whole((decision.count.weight or 0.0) * need / size)
    enough = serving - int(max(0.0, spare) / size + 1e-6)
    if max(routed, enough) <= wanted:
        return wanted, ""
    note = "what takes its place doesn't serve yet" if enough >= routed else "the router still sends requests to it"
    return min(present, max(routed, enough)), note


def _within_cores(group: Sequence[Target], cores: float, decisions: Sequence[Decision]) -> list[Decision]:
    """From the targets that need their units least as many are taken as the group's cores ask for."""
    claims = {
        each.target: Claim(each.wanted, each.count.present or 0, each.wish or 0.0, held=False)
        for each in decisions
        if each.wanted is not None and each.wanted > 0
    }
    shares = fit([target for target in group if target.name in claims], claims, cores)
    after = []
    for each in decisions:
        share = shares.get(each.target)
        if share is not None and share.count != each.wanted:
            note = f"{each.wanted} would not fit into the {cores:g} cores of its group"
            each = dataclasses.replace(each, wanted=share.count, reason=f"{each.reason}; {note}")
        after.append(each)
    return after


def _at_least(group: Sequence[Target], minimum: int, decisions: Sequence[Decision]) -> list[Decision]:
    """Units that the group lacks for its minimum: those that would go stay, else the target that is wished for most has them."""
    after = {each.target: each for each in decisions}
    maxima = {target.name: target.maximum for target in group}
    missing = minimum - sum(each.wanted or 0 for each in decisions)
    stay = {each.target: max(0, (each.count.present or 0) - (each.wanted or 0)) for each in decisions}
    for name in sorted(stay, key=lambda name: (stay[name], after[name].wish or 0.0), reverse=True):
        each = after[name]
        more = min(missing, maxima[name] - (each.wanted or 0))
        if more > 0:
            missing -= more
            reason = f"{each.reason}; its group has {minimum} units or more"
            after[name] = dataclasses.replace(each, wanted=(each.wanted or 0) + more, reason=reason)
    return list(after.values())


def _weights(group: Sequence[Target], decisions: Sequence[Decision], wishes: Mapping[str, Wish]) -> Mapping[str, float]:
    """What the router is to send where now: a target that is to get more gets it as its units come, and what those don't carry yet stays
    with the targets that it will be taken from. Empty where nobody wished for weights, or the router's own aren't known."""
    wished = {target.name: wishes[target.name].weight or 0.0 for target in group}
    total = sum(wished.values())
    present = {each.target: each.count.weight for each in decisions}
    if not total > 0 or any(weight is None for weight in present.values()):
        return {}
    now: dict[str, float] = {}
    leaving: dict[str, float] = {}
    for target, each in zip(group, decisions, strict=True):
        serving, before, after = each.count.serving or 0, present[target.name] or 0.0, wished[target.name] / total
        if not serving:
            now[target.name] = 0.0
        elif after > before:
            units = whole(min(max(wishes[target.name].units, target.minimum), target.maximum))
            now[target.name] = max(before, after * min(1.0, serving / max(1, units)))
        else:
            now[target.name], leaving[target.name] = after, before - after
    rest = 1.0 - sum(now.values())
    takers = leaving if sum(leaving.values()) > 0 else now
    carried = sum(takers.values())
    if not carried > 0:
        return {}
    return {name: round(weight + rest * takers.get(name, 0.0) / carried, 4) for name, weight in now.items()}
