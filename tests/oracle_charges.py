"""The price models as a person would write them: one quantity, one event at a time, fractions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from catalog.charges import (
    Beyond,
    Flat,
    Graduated,
    GraduatedPercentage,
    Matrix,
    Package,
    Percentage,
    PerUnit,
    Stairstep,
    Volume,
)


class Refused(Exception):
    """A quantity that no tier, row or plan covers."""


def tier_cost(tier: Any, units: Fraction, *, unused_fee: bool) -> Fraction:
    """What one tier charges for the units in it."""
    sold = units
    if tier.package_size is not None:
        sold = Fraction(max(0, math.ceil(units / Fraction(tier.package_size))))
    cost = sold * Fraction(tier.unit_price or 0)
    if units > 0 or unused_fee:
        cost += Fraction(tier.flat_fee or 0)
    return cost if tier.maximum is None else min(cost, Fraction(tier.maximum))


def charged(charge: Any, units: Fraction) -> Fraction:
    """What the price model asks for ``units``."""
    match charge:
        case Flat():
            return units * Fraction(charge.amount)
        case PerUnit():
            return units * Fraction(charge.unit_price)
        case Package():
            rest = units - Fraction(charge.free_units)
            sold = max(0, math.ceil(rest / Fraction(charge.size)))
            return sold * Fraction(charge.package_price)
        case Graduated():
            return graduated(charge, units)
        case Volume():
            return volume(charge, units)
        case Stairstep():
            return stairstep(charge, units)
        case GraduatedPercentage():
            return graduated_percentage(charge, units)
        case Percentage():
            free = min(Fraction(charge.free_units or 0), units) if units > 0 else 0
            return (units - free) * Fraction(charge.percent) / 100
    raise NotImplementedError(charge)


def graduated(charge: Graduated, units: Fraction) -> Fraction:
    """Each tier for the units in it."""
    total, low = Fraction(0), Fraction(0)
    for n, tier in enumerate(charge.tiers):
        inside = (units if tier.up_to is None else min(units, Fraction(tier.up_to))) - low
        if n == 0 or units > low:
            unused = charge.flat_fee_when_unused and n == 0
            total += tier_cost(tier, inside, unused_fee=unused)
        if tier.up_to is None:
            return total
        low = Fraction(tier.up_to)
    if units > low and charge.beyond is Beyond.REFUSE:
        raise Refused
    return total


def volume(charge: Volume, units: Fraction) -> Fraction:
    """All units in the one tier reached."""
    for n, tier in enumerate(charge.tiers):
        if tier.up_to is None or units <= Fraction(tier.up_to):
            return tier_cost(tier, units, unused_fee=charge.flat_fee_when_unused and n == 0)
    if charge.beyond is Beyond.REFUSE:
        raise Refused
    return Fraction(0)


def stairstep(charge: Stairstep, units: Fraction) -> Fraction:
    """The fee of the band the units reach, or of all bands up to it."""
    fees = Fraction(0)
    for tier in charge.tiers:
        if units > 0:
            fees = Fraction(tier.flat_fee or 0) + (fees if charge.cumulative else 0)
        if tier.up_to is None or units <= Fraction(tier.up_to):
            return fees
    raise Refused


def graduated_percentage(charge: GraduatedPercentage, units: Fraction) -> Fraction:
    """Of what lies in each tier its share, and the tier's fee once something does."""
    total, low = Fraction(0), Fraction(0)
    for n, tier in enumerate(charge.tiers):
        if n == 0 or units > low:
            inside = (units if tier.up_to is None else min(units, Fraction(tier.up_to))) - low
            total += inside * Fraction(tier.percent) / 100
            if inside > 0 or (n == 0 and charge.flat_fee_when_unused):
                total += Fraction(tier.flat_fee or 0)
        if tier.up_to is None:
            return total
        low = Fraction(tier.up_to)
    if units > low:
        raise Refused
    return total


def events_cost(charge: Percentage, values: Iterable[Fraction]) -> Fraction:
    """Each event in turn: free while both allowances last, else its share, fixed part, bounds."""
    total = used = Fraction(0)
    for number, value in enumerate(values, start=1):
        left = value
        counted = not charge.free_events or number <= charge.free_events
        used += max(value, Fraction(0))
        if charge.free_units:
            if counted and used <= Fraction(charge.free_units):
                continue
            if counted and value > 0:
                beyond = used - Fraction(charge.free_units)
                left = min(value, beyond)
        elif charge.free_events and counted:
            continue
        cost = left * Fraction(charge.percent) / 100
        if value >= 0:
            cost += Fraction(charge.fixed or 0)
            if charge.event_maximum is not None:
                cost = min(cost, Fraction(charge.event_maximum))
            if charge.event_minimum is not None:
                cost = max(cost, Fraction(charge.event_minimum))
        total += cost
    return total


def matrix_row(charge: Matrix, values: Mapping[str, str]) -> int | None:
    """The matching row that asks most; ``*`` asks nothing."""
    best, most = None, -1
    for index, row in enumerate(charge.rows):
        asked = [(key, value) for key, value in row.when if value != "*"]
        if all(values.get(key) == value for key, value in asked) and len(asked) > most:
            best, most = index, len(asked)
    return best


def plan_fee(charge: Any, used: Mapping[str, Fraction]) -> Fraction:
    """The fee of the first plan that holds everything used."""
    for tier in charge.tiers:
        if all(used.get(meter, 0) <= Fraction(limit) for meter, limit in tier.up_to or ()):
            return Fraction(tier.amount)
    raise Refused
