"""Whole numbers that a graph computes, as polynomials that can be compared.

Exporters spell one number in many ways: `Shape(ids)[0]`, `Size(Reshape(ids, -1))`, `3 * batch`. Two spellings
are the same number where their polynomials are equal. What isn't understood is an unknown of its own, equal
only to itself, so a comparison may miss an equality and never invents one.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

Unknown = tuple[Hashable, ...]
Monomial = frozenset[tuple[Unknown, int]]  # unknowns and their powers


@dataclass(frozen=True)
class Number:
    """A polynomial with whole coefficients over unknowns: sizes, elements of tensors, turns of loops."""

    terms: frozenset[tuple[Monomial, int]]

    @staticmethod
    def of(value: int) -> "Number":
        """A known number."""
        return _number({frozenset(): value})

    @staticmethod
    def unknown(*what: Hashable) -> "Number":
        """A number of which only its identity is known."""
        return _number({frozenset({(what, 1)}): 1})

    @property
    def constant(self) -> int | None:
        """The number itself where it is known."""
        if not self.terms:
            return 0
        ((monomial, factor), *rest) = self.terms
        return factor if not rest and not monomial else None

    def __add__(self, other: "Number | int") -> "Number":
        total = dict(self.terms)
        for monomial, factor in (other if isinstance(other, Number) else Number.of(other)).terms:
            total[monomial] = total.get(monomial, 0) + factor
        return _number(total)

    def __mul__(self, other: "Number | int") -> "Number":
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in (other if isinstance(other, Number) else Number.of(other)).terms:
                powers = dict(left)
                for unknown, power in right:
                    powers[unknown] = powers.get(unknown, 0) + power
                monomial = frozenset(powers.items())
                total[monomial] = total.get(monomial, 0) + a * b
        return _number(total)

    def __neg__(self) -> "Number":
        return self * -1

    def __sub__(self, other: "Number | int") -> "Number":
        return self + other * -1

    def over(self, divisor: "Number") -> "Number | None":
        """The quotient where the division by a one-term divisor comes out even, else None."""
        if len(divisor.terms) != 1:
            return Number.of(1) if self == divisor and self.terms else None
        ((below, by),) = divisor.terms
        total: dict[Monomial, int] = {}
        for monomial, factor in self.terms:
            powers = dict(monomial)
            for unknown, power in below:
                powers[unknown] = powers.get(unknown, 0) - power
            if factor % by or any(power < 0 for power in powers.values()):
                return None
            total[frozenset((unknown, power) for unknown, power in powers.items() if power)] = factor // by
        return _number(total)

    def unknowns(self) -> frozenset[Unknown]:
        """Every unknown in it, those inside of positions included."""
        direct_unknowns = {unknown for monomial, _ in self.terms for unknown, _ in monomial}
        inner = (part.unknowns() for unknown in direct_unknowns for part in unknown if isinstance(part, Number))
        return frozenset(direct_unknowns).union(*inner)

    def mentions(self, other: "Number") -> bool:
        """Whether an unknown of `other` is in it."""
        return bool(self.unknowns() & other.unknowns())

    def element(self) -> tuple[ir.Value, "Number"] | None:
        """(tensor, position) where the number is an element of a tensor about which nothing more is known."""
        if len(self.terms) != 1:
            return None
        ((monomial, factor),) = self.terms
        if factor != 1 or len(monomial) != 1:
            return None
        ((unknown, power),) = monomial
        if power != 1 or unknown[0] != "at":
            return None
        _, tensor, position = unknown
        assert isinstance(tensor, ir.Value) and isinstance(position, Number)
        return tensor, position


def _number(terms: Mapping[Monomial, int]) -> Number:
    return Number(frozenset((monomial, factor) for monomial, factor in terms.items() if factor))


ZERO = Number.of(0)
ONE = Number.of(1)
