"""Which variants of a model run, how large each, and who gets how much of the traffic: InfAdapter's choice (EuroMLSys 2023), solved
exactly by mixed-integer programming.

The paper's formula weighs accuracy against cores and against the longest load of a variant that changes. Beyond it, `hold_s` counts what
a change costs as what it is: cores that are in use twice until the new size serves, as a share of the time for which a choice is held.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import InputError, MissingExtra

Floats = NDArray[np.float64]
_EPS = 1e-9


@dataclass(frozen=True)
class Size:
    """A variant on so many `cores` answers `qps` queries a second within the bound; `units` of each of its stages make it up."""

    cores: float
    qps: float
    units: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A part of a variant, one after the other (embedding, dense): a unit has `cores` and answers `qps`; there may be `maximum`."""

    cores: float
    qps: float
    maximum: int


@dataclass(frozen=True)
class Variant:
    """`accuracy` in [0, 1]. `sizes`: as what it may run. `present`: the cores that it runs on now, 0: it doesn't.

    Another size serves `load_s` after it was asked for; where `in_place`, at once if the variant runs already.
    """

    name: str
    accuracy: float
    sizes: tuple[Size, ...]
    load_s: float = 0.0
    present: float = 0.0
    in_place: bool = False

    def loads(self, size: Size) -> bool:
        """Whether this size has to be loaded first."""
        return abs(size.cores - self.present) > _EPS and not (self.in_place and self.present > 0)


@dataclass(frozen=True)
class Objective:
    """What is maximized: mean accuracy of the queries
    - `cost` * cores in use / all cores (the paper's beta; alpha in its code)
    - `loading` * longest load among the variants that change / longest of all (gamma; beta in its code).

    `hold_s`: how long a choice is expected to last; the cores that a variant has now count for as long as its successor loads. inf: the
    paper's, where a change costs no cores. `single`: one variant only (MS+, Model-Switching made aware of cost).
    """

    cost: float = 0.05
    loading: float = 0.001
    hold_s: float = math.inf
    single: bool = False


@dataclass(frozen=True)
class Chosen:
    """A variant's part: its size, None: it doesn't run; and its share of the queries."""

    size: Size | None
    share: float


@dataclass(frozen=True)
class Choice:
    """What each variant gets, in their order. `enough`: whether it carries the rate. `value` of the objective, -inf where not enough."""

    chosen: tuple[Chosen, ...]
    enough: bool
    value: float

    @property
    def cores(self) -> float:
        """In use when all of it serves."""
        return sum(each.size.cores for each in self.chosen if each.size is not None)


def sizes(stages: Sequence[Stage], cores: float) -> tuple[Size, ...]:
    """The sizes on at most `cores` of a variant whose stages run one after the other: each as few units as the slowest asks for, so that
    none is larger than another that answers as much."""
    ladder = sorted({count * stage.qps for stage in stages for count in range(1, stage.maximum + 1)})
    smallest: list[Size] = []
    for qps in ladder:
        units = tuple(math.ceil(qps / stage.qps - _EPS) for stage in stages)
        used = sum(count * stage.cores for count, stage in zip(units, stages, strict=True))
        if used > cores + _EPS or any(count > stage.maximum for count, stage in zip(units, stages, strict=True)):
            break
        if smallest and used <= smallest[-1].cores + _EPS:
            smallest.pop()
        smallest.append(Size(used, qps, units))
    return tuple(smallest)


def choose(variants: Sequence[Variant], rate: float, cores: float, objective: Objective) -> Choice:
    """The best choice for `rate` queries a second on at most `cores`. Where none carries it, the one that carries most, in shares of what
    each carries.

    Raises InputError for variants, rates or cores that make no sense, MissingExtra without scipy.
    """
    _check(variants, rate, cores)
    program = _Program(variants, max(rate, _EPS), cores, objective)
    return program.best() or program.most()


def value(variants: Sequence[Variant], chosen: Sequence[Chosen], cores: float, objective: Objective) -> float:
    """The objective of a choice, whoever made it. `cores`: all that there are."""
    accuracy = sum(variant.accuracy * each.share for variant, each in zip(variants, chosen, strict=True))
    used = sum(_cores(variant, each.size, variants, objective) for variant, each in zip(variants, chosen, strict=True))
    loads = [variant.load_s for variant, each in zip(variants, chosen, strict=True) if each.size is not None and variant.loads(each.size)]
    return accuracy - objective.cost * used / cores - objective.loading * max(loads, default=0.0) / _longest(variants)


def _longest(variants: Sequence[Variant]) -> float:
    return max((variant.load_s for variant in variants), default=0.0) or 1.0


def _cores(variant: Variant, size: Size | None, variants: Sequence[Variant], objective: Objective) -> float:
    """Cores in use for one variant, in the mean over the time for which the choice is held: those of before until others serve."""
    next_cores = 0.0 if size is None else size.cores
    if not variant.present or abs(next_cores - variant.present) <= _EPS:
        return next_cores
    if size is None:
        return next_cores + variant.present * min(1.0, _longest(variants) / objective.hold_s)
    return next_cores + (variant.present * min(1.0, variant.load_s / objective.hold_s) if variant.loads(size) else 0.0)


class _Program:
    """The columns: one binary for each variant and size, 0 cores among them; each variant's share; the longest load, of the longest."""

    def __init__(self, variants: Sequence[Variant], rate: float, cores: float, objective: Objective) -> None:
        self._variants, self._cores, self._objective = variants, cores, objective
        self._sizes: list[tuple[int, Size | None]] = [
            (place, size) for place, variant in enumerate(variants) for size in (None, *variant.sizes)
        ]
        self._count = len(self._sizes)
        self._owner = np.array([place for place, _ in self._sizes])
        self._used = np.array([0.0 if size is None else size.cores for _, size in self._sizes])
        # Of the rate, and no more than all of it: keeps the numbers near each other.
        self._carried = np.array([0.0 if size is None else min(size.qps / rate, 1.0) for _, size in self._sizes])
        longest = _longest(variants)
        self._loads = np.array(
            [variants[place].load_s / longest if size is not None and variants[place].loads(size) else 0.0 for place, size in self._sizes]
        )

    def best(self) -> Choice | None:
        """None where nothing carries the rate."""
        variants, objective = self._variants, self._objective
        spent = np.array([_cores(variants[place], size, variants, objective) for place, size in self._sizes])
        gain = np.concatenate([-objective.cost * spent / self._cores, [variant.accuracy for variant in variants], [-objective.loading]])
        rows, low, high = self._rows()
        shares = np.zeros((1, len(gain)))
        shares[0, self._count : -1] = 1
        columns = self._solve(gain, [*rows, shares], [*low, np.ones(1)], [*high, np.ones(1)])
        if columns is None:
            return None
        chosen = self._chosen(columns)
        return Choice(chosen, True, value(variants, chosen, self._cores, objective))

    def most(self) -> Choice:
        """What carries most; of equals what is the more accurate."""
        rows, low, high = self._rows()
        accuracy = np.array([self._variants[place].accuracy for place in self._owner])
        gain = np.concatenate([self._carried * (1 + 1e-6 * accuracy), np.zeros(len(self._variants) + 1)])
        columns = self._solve(gain, rows, low, high)
        assert columns is not None  # nothing at all is allowed
        picked = self._chosen(columns)
        total = sum(each.size.qps for each in picked if each.size is not None)
        return Choice(tuple(Chosen(each.size, 0.0 if each.size is None else each.size.qps / total) for each in picked), False, -math.inf)

    def _rows(self) -> tuple[list[Floats], list[Floats], list[Floats]]:
        """One size a variant; a share no larger than its size carries; within the cores; the longest load; one variant, if asked for."""
        count, number = self._count, len(self._variants)
        width = count + number + 1
        one, carried, within, loads, single = (np.zeros((rows, width)) for rows in (number, number, 1, count, 1))
        one[self._owner, np.arange(count)] = 1
        carried[self._owner, np.arange(count)] = -self._carried
        carried[np.arange(number), count + np.arange(number)] = 1
        within[0, :count] = self._used
        loads[np.arange(count), np.arange(count)] = self._loads
        loads[:, -1] = -1
        single[0, :count] = [size is not None for _, size in self._sizes]
        rows = [one, carried, within]
        low = [np.ones(number), *(np.full(len(each), -np.inf) for each in (carried, within))]
        high = [np.ones(number), np.zeros(number), np.array([self._cores + _EPS])]
        if self._objective.loading:
            rows, low, high = [*rows, loads], [*low, np.full(count, -np.inf)], [*high, np.zeros(count)]
        if self._objective.single:
            rows, low, high = [*rows, single], [*low, np.zeros(1)], [*high, np.ones(1)]
        return rows, low, high

    def _solve(self, gain: Floats, rows: list[Floats], low: list[Floats], high: list[Floats]) -> Floats | None:
        try:
            from scipy.optimize import Bounds, LinearConstraint, milp
        except ModuleNotFoundError as error:
            raise MissingExtra("scipy", "capacity", "choosing among variants") from error
        whole = np.zeros(len(gain))
        whole[: self._count] = 1
        solved = milp(
            -gain,
            integrality=whole,
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(np.concatenate(rows), np.concatenate(low), np.concatenate(high)),
            # Without presolve: where it repairs a rounded solution HiGHS writes a line to stdout, which is a command's JSON.
            options={"mip_rel_gap": 0.0, "presolve": False},
        )
        return None if solved.x is None else np.asarray(solved.x)

    def _chosen(self, columns: Floats) -> tuple[Chosen, ...]:
        picked: list[Size | None] = [None] * len(self._variants)
        for number in np.flatnonzero(columns[: self._count] > 0.5):
            place, size = self._sizes[number]
            picked[place] = size
        shares = np.clip(columns[self._count : -1], 0.0, 1.0)
        total = float(shares.sum()) or 1.0
        return tuple(Chosen(size, 0.0 if size is None else float(share) / total) for size, share in zip(picked, shares, strict=True))


def _check(variants: Sequence[Variant], rate: float, cores: float) -> None:
    if not variants or len({variant.name for variant in variants}) < len(variants):
        raise InputError("variants need names of their own, and there must be one", hint="name each")
    if not (math.isfinite(rate) and rate >= 0 and math.isfinite(cores) and cores > 0):
        raise InputError(f"{rate:g} queries/s on {cores:g} cores", hint="a rate from 0 on, and more than 0 cores")
    for variant in variants:
        amounts = [amount for size in variant.sizes for amount in (size.cores, size.qps)]
        if not 0 <= variant.accuracy <= 1 or not all(math.isfinite(amount) and amount > 0 for amount in amounts):
            raise InputError(
                f"variant {variant.name!r} has an accuracy out of [0, 1], or a size without cores or queries", hint="measure it"
            )
        if not (math.isfinite(variant.load_s) and variant.load_s >= 0 and math.isfinite(variant.present) and variant.present >= 0):
            raise InputError(
                f"variant {variant.name!r} loads in {variant.load_s:g} s on {variant.present:g} cores", hint="0 or more of each"
            )
    if not any(size.cores <= cores + _EPS for variant in variants for size in variant.sizes):
        raise InputError(f"no variant runs on {cores:g} cores", hint="give more cores, or smaller sizes")
