"""What a contract makes of its pricebook's list: replace, add, multiply, remove, amend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from catalog.clock import Micros
from catalog.contracts import Amendment, Contract, PriceOverride
from catalog.pricebooks import Moment, Price
from catalog.snapshot import resolve

T = TypeVar("T")

ONE = Decimal(1)
LISTED, OWN = "list", "contract"
"""The sources of terms: a pricebook, or the contract itself."""


class Dated(Protocol):
    """Whatever holds between two moments, either of which may be open."""

    @property
    def effective_from(self) -> Moment | None:
        """The first moment it holds; null from the beginning."""
        ...

    @property
    def effective_until(self) -> Moment | None:
        """The first moment it holds no more; null for ever."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where terms come from.

    ``source`` is ``list`` (a pricebook) or ``contract``, ``id`` which one, ``key`` the price in
    it, ``revision`` the one of the catalog that stated it.
    """

    source: str
    id: str
    key: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A price a contract has at one time, and the factor on what it charges."""

    price: Price
    origin: Origin
    multiply: Decimal = ONE


def in_force(dated: Dated, instant: int, timezone: ZoneInfo) -> bool:
    """Whether ``instant`` lies between the effective dates."""
    since, until = dated.effective_from, dated.effective_until
    begun = since is None or resolve(since, timezone) <= instant
    return begun and (until is None or instant < resolve(until, timezone))


def bounds(dated: Iterable[Dated], timezone: ZoneInfo) -> list[Micros]:
    """Every instant at which one of ``dated`` begins or ceases to hold."""
    moments = (moment for d in dated for moment in (d.effective_from, d.effective_until))
    return [resolve(moment, timezone) for moment in moments if moment is not None]


def latest(prices: Iterable[Price], timezone: ZoneInfo) -> dict[str, Price]:
    """Of prices in force that share a key, those that took effect last; by slot.

    A price with a later ``effective_from`` takes the place of its namesake; namesakes with the
    same one stand beside each other (``key``, ``key#2``, …: a ramp by periods).
    """
    named: dict[str, list[tuple[int, Price]]] = {}
    for price in prices:
        moment = price.effective_from
        since = -(2**63) if moment is None else resolve(moment, timezone)
        named.setdefault(price.key, []).append((since, price))
    slots: dict[str, Price] = {}
    for key, candidates in named.items():
        last = max(since for since, _ in candidates)
        for _, price in (c for c in candidates if c[0] == last):
            slots[free_slot(key, slots)] = price
    return slots


def free_slot(key: str, taken: Iterable[str]) -> str:
    """``key``, or ``key#2``, ``key#3``, … where that is taken."""
    names = set(taken)
    slot, count = key, 1
    while slot in names:
        count += 1
        slot = f"{key}#{count}"
    return slot


def amended(contract: Contract, instant: int, timezone: ZoneInfo) -> Contract:
    """``contract`` as it stands at ``instant``: what an amendment names replaces what stood."""
    for amendment in in_order(contract.amendments, timezone):
        if resolve(amendment.effective_from, timezone) <= instant:
            contract = replace(
                contract,
                prices=_renewed(amendment.prices, contract.prices),
                discounts=_renewed(amendment.discounts, contract.discounts),
                commitments=_renewed(amendment.commitments, contract.commitments),
                pricebook=amendment.pricebook or contract.pricebook,
            )
    return contract


def _renewed(named: tuple[T, ...] | None, stood: tuple[T, ...]) -> tuple[T, ...]:
    return stood if named is None else named


def pinned_at(contract: Contract, start: Micros, instant: int, timezone: ZoneInfo) -> Micros:
    """When a pinned contract's list was fixed: at its start, or when it changed pricebooks."""
    moments = [
        resolve(amendment.effective_from, timezone)
        for amendment in contract.amendments
        if amendment.pricebook is not None
    ]
    return max([start, *(m for m in moments if m <= instant)])


def in_order(amendments: Sequence[Amendment], timezone: ZoneInfo) -> list[Amendment]:
    """Amendments by the time they take effect, as written where that is the same."""
    return sorted(amendments, key=lambda a: resolve(a.effective_from, timezone))


def overridden(
    offers: dict[str, Offer],
    overrides: Sequence[PriceOverride],
    *,
    instant: int,
    timezone: ZoneInfo,
    origin: Origin,
) -> dict[str, Offer]:
    """List ``offers`` after the contract's ``overrides`` in force at ``instant``, by slot.

    Targets are always *list* prices: overrides do not act on each other. A price that replaces
    exactly one list price takes its slot; of several factors on one price the last stands.
    """
    result = dict(offers)
    added: list[tuple[str, Offer]] = []
    for override in _in_force(overrides, instant, timezone):
        slots = [] if override.additional else _targets(offers, override)
        stated = replace(origin, key=override.overrides or override.product)
        if override.multiply is not None:
            for slot in slots:
                list_price = offers[slot].price
                result[slot] = Offer(price=list_price, origin=stated, multiply=override.multiply)
            continue
        for slot in slots:
            result.pop(slot, None)
        if override.price is not None:
            key = slots[0] if len(slots) == 1 else override.price.key
            offer = Offer(price=override.price, origin=replace(stated, key=override.price.key))
            added.append((f"+{key}" if override.additional else key, offer))
    for key, offer in added:
        result[free_slot(key, result)] = offer
    return result


def _targets(offers: dict[str, Offer], override: PriceOverride) -> list[str]:
    return [
        slot
        for slot, offer in offers.items()
        if offer.price.product == override.product
        and (override.overrides is None or offer.price.key == override.overrides)
    ]


def _in_force(
    overrides: Sequence[PriceOverride], instant: int, timezone: ZoneInfo
) -> list[PriceOverride]:
    """Overrides in force; of namesakes only those that took effect last, as in a list."""
    found: list[PriceOverride] = []
    newest: dict[tuple[object, ...], int] = {}
    for override in overrides:
        price = override.price
        if price is not None and not in_force(price, instant, timezone):
            continue
        found.append(override)
        name, since = _name(override), _since(override, timezone)
        newest[name] = max(since, newest.get(name, since))
    return [o for o in found if _since(o, timezone) == newest[_name(o)]]


def _name(override: PriceOverride) -> tuple[object, ...]:
    key = override.price.key if override.price else override.multiply or "remove"
    return override.product, override.overrides, override.additional, key


def _since(override: PriceOverride, timezone: ZoneInfo) -> int:
    moment = override.price.effective_from if override.price else None
    return -(2**63) if moment is None else resolve(moment, timezone)
