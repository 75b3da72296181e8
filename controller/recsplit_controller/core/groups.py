"""Targets of one group stand in for each other: what holds for all of them together. Pure. A target without a group is one of its own.

Make before break: capacity is given up only as far as what serves then still is what was wished for, and a target keeps what the router's
present share of the requests needs. The router follows what serves. The bounds of a group are laid on its wishes, so that what they ask for
comes in steps and after delays as any other wish does.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsplit_controller.core.budget import Claim, fit
from recsplit_controller.core.units import whole
from recsplit_controller.values.decision import Decision, Wish
from recsplit_controller.values.observation import Count, Observation
from recsplit_controller.values.settings import GroupBounds, Settings, Target

#: A router is not told of a smaller change of a weight, unless it is to send nothing, or something, where it is otherwise now.
LEAST_WEIGHT = 0.005


@dataclass(frozen=True)
class Sums:
    """Of a group, in queries a second where every target's `max_qps` is known, else in units. `present`: what was asked for; `serving`:
    what answers; `gained`: what the wishes are more in whole units, `lost` fewer; `wished`: what they come to. `sizes`: what a unit of each
    target is. `moves`: whether the wishes differ from what is present by more than the tolerance.
    """

    sizes: Mapping[str, float]
    present: float
    serving: float
    gained: float
    lost: float
    wished: float
    moves: bool

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


def absent(count: Count) -> bool:
    """Whether there is nothing of a target, and nothing is to be."""
    return count.serving == 0 and count.asked == 0


def idle(target: Target, count: Count) -> bool:
    """Whether its units are there because Triton can't have none of a loaded model, and are sent nothing: they use no core."""
    return count.weight == 0 and (count.present or 0) <= target.minimum


def bounded(settings: Settings, group: Sequence[Target], observation: Observation, wishes: Mapping[str, Wish]) -> dict[str, Wish]:
    """The wishes for a group within its bounds: from the targets that need their units least as many are taken as its cores ask for, and
    what its minimum lacks stays where it is, or goes to what is wished for most. As they are where one isn't known."""
    if group[0].group is None or any(target.name not in wishes for target in group):
        return dict(wishes)
    bounds, after = bounds_of(settings, group[0]), dict(wishes)
    units = {target.name: whole(target.within_bounds(wishes[target.name].units)) for target in group}
    if bounds.cores is not None:
        claims = {
            target.name: Claim(units[target.name], observation.count(target.name).present or 0, wishes[target.name].units, held=False)
            for target in group
            if whole(wishes[target.name].units)  # what there is by its minimum alone is sent nothing, and takes no core
        }
        fitting = fit([target for target in group if target.name in claims], claims, bounds.cores, fewer_threads=False)
        for name, share in fitting.items():
            if share.count < units[name]:
                note = f"{units[name]} would not fit into the {bounds.cores:g} cores of its group"
                after[name] = _changed(after[name], units[name], share.count, note)
                units[name] = share.count
    missing = bounds.minimum - sum(units.values())
    present = {target.name: observation.count(target.name).present or 0 for target in group}
    for most in (present, {target.name: target.maximum for target in group}):
        for name in sorted(units, key=lambda name: (most[name] - units[name], wishes[name].units), reverse=True):
            more = min(missing, most[name] - units[name])
            if more > 0:
                after[name] = _changed(after[name], units[name], units[name] + more, f"its group has {bounds.minimum} units or more")
                units[name], missing = units[name] + more, missing - more
    return after


def _changed(wish: Wish, before: int, units: int, note: str) -> Wish:
    """Another number of units, and as much less or more of the requests."""
    weight = wish.weight if wish.weight is None or not before else wish.weight * units / before
    return dataclasses.replace(wish, units=float(units), weight=weight, reason=f"{wish.reason}; {note}")


def sums(settings: Settings, group: Sequence[Target], observation: Observation, wishes: Mapping[str, Wish]) -> Sums | None:
    """A group's sums; None where not all of it is known."""
    measured = all(target.max_qps is not None for target in group)
    sizes = {target.name: float(target.max_qps or 1.0) if measured else 1.0 for target in group}
    bounds = bounds_of(settings, group[0])
    present = serving = moved = gained = lost = wished = cores = 0.0
    whole_ones = 0
    ends = False
    for target in group:
        count, wish, size = observation.count(target.name), wishes.get(target.name), sizes[target.name]
        if wish is None or not count.known:
            return None
        assert count.present is not None and count.serving is not None
        units = target.within_bounds(wish.units)
        present += size * count.present
        serving += size * count.serving
        moved += size * abs(units - count.present)
        gained += size * max(0, whole(units) - count.present)
        lost += size * max(0, count.present - whole(units))
        wished += size * whole(units)
        cores += 0.0 if idle(target, count) else target.cores * count.present
        whole_ones += count.present
        ends |= units == 0 < count.present  # what is wished away doesn't stay for being a small part
    tolerance = settings.tolerance if bounds.tolerance is None else bounds.tolerance
    beyond = group[0].group is not None and (whole_ones < bounds.minimum or cores > (math.inf if bounds.cores is None else bounds.cores))
    return Sums(sizes, present, serving, gained, lost, wished, moved > present * tolerance or ends or beyond)


@dataclass(frozen=True)
class Floor:
    """What of a group has to stay for now, in what its sums are in, and why that is more than is wished for."""

    kept: float
    note: str = ""


def settled(
    group: Sequence[Target], known: Sums, decisions: Sequence[Decision], wishes: Mapping[str, Wish], floor: Floor
) -> Sequence[Decision]:
    """The decisions on a group's targets in an order that leaves enough, with the router's weights for now."""
    shares = _shares(group, wishes)
    weights = _weights(group, known, decisions, wishes, shares)
    spare = sum(known.sizes[each.target] * _staying(each.count) for each in decisions) - max(known.wished, floor.kept)
    after = []
    for each in decisions:
        size = known.sizes[each.target]
        kept, note = _kept(each, size, spare, known.wished, shares.get(each.target, 0.0), floor)
        spare -= size * max(0, _staying(each.count) - kept)
        reason = f"{each.reason}; {note}" if note else each.reason
        after.append(dataclasses.replace(each, wanted=kept, reason=reason, weight=weights.get(each.target)))
    return after


def _staying(count: Count) -> int:
    """Units that serve, and aren't to end."""
    return min(count.serving or 0, count.asked or 0)


def _kept(decision: Decision, size: float, spare: float, need: float, share: float, floor: Floor) -> tuple[int, str]:
    """How many of a target's units are wanted for now, and why that is more than were decided on. `share`: the part of the requests that
    it is wished to get in the end."""
    present, wanted, weight = decision.count.present, decision.wanted, decision.count.weight or 0.0
    assert present is not None and wanted is not None
    if wanted >= present:
        return wanted, ""
    # A router that has turned away as far as it will: what is left to it is what the wish is for.
    routed = 0 if share > 0 and weight <= share + LEAST_WEIGHT else whole(weight * need / size)
    enough = _staying(decision.count) - int(max(0.0, spare) / size + 1e-6)
    if max(routed, enough) <= wanted:
        return wanted, ""
    waits = floor.note if floor.kept > need and floor.note else "what takes its place doesn't serve yet"
    note = waits if enough >= routed else "the router still sends requests to it"
    return min(present, max(routed, enough)), note


def _shares(group: Sequence[Target], wishes: Mapping[str, Wish]) -> Mapping[str, float]:
    """The parts of the requests that are wished for; empty where nobody wished for any. What is no part (negative, NaN) is none."""
    wished = {target.name: wishes[target.name].weight or 0.0 for target in group}
    wished = {name: weight if 0 < weight < math.inf else 0.0 for name, weight in wished.items()}
    total = sum(wished.values())
    return {name: weight / total for name, weight in wished.items()} if 0 < total < math.inf else {}


def _weights(
    group: Sequence[Target], known: Sums, decisions: Sequence[Decision], wishes: Mapping[str, Wish], shares: Mapping[str, float]
) -> Mapping[str, float]:
    """What the router is to send where now. Each target gets of its share as much as its units carry of those that are wished for; what
    is left over stays where it is now as far as it is carried there, and the rest goes to all units that serve. Empty where the router's
    own weights aren't known."""
    before = {each.target: each.count.weight for each in decisions if each.count.weight is not None}
    if not shares or len(before) < len(decisions):
        return {}
    staying = {each.target: _staying(each.count) for each in decisions}
    now = {
        target.name: shares[target.name] * min(1.0, staying[target.name] / max(1, whole(target.within_bounds(wishes[target.name].units))))
        for target in group
    }
    capacity = {name: known.sizes[name] * units for name, units in staying.items()}
    # It had more than it carries where units were lost, or more are needed: that is for all who serve.
    most = {name: min(before[name], size / known.wished) if known.wished else 0.0 for name, size in capacity.items()}
    had = {name: max(0.0, most[name] - now[name]) for name in now}
    for room, limited in ((had, True), (capacity, False)):
        rest, total = 1.0 - sum(now.values()), sum(room.values())
        if rest > 1e-9 and total > 0:
            part = min(1.0, rest / total) if limited else rest / total
            now = {name: weight + part * room[name] for name, weight in now.items()}
    return {name: round(weight, 6) for name, weight in now.items()} if sum(now.values()) > 1 - 1e-6 else {}
