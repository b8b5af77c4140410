"""``pricebooks: {b: {currency, invoicing, prices, …}}`` and entitlements."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from catalog.grammar.nodes import Codec, Fields, Node, Record, listed, may, need, step
from catalog.grammar.prices import EVERY_MONTHS, INVOICING, PRICE, PRORATE
from catalog.grammar.scalars import (
    BOOLEAN,
    CURRENCY,
    FEATURE,
    QUANTITY_GIVEN,
    WORD,
    choice,
    integer,
)
from catalog.moments import in_utc
from catalog.pricebooks import Anchor, Entitlement, Limit, Price, Pricebook

PRICES_MAX = 5_000


def _read_every(node: Node) -> int:
    return 1 if node.value == "month" else EVERY_MONTHS.read(node)


_EVERY: Codec[int] = Codec(
    _read_every, lambda months: "month" if months == 1 else EVERY_MONTHS.write(months)
)


def _check_entitlement(found: Entitlement, fields: Fields) -> None:
    if [found.amount is not None, found.unlimited, found.value is not None].count(True) != 1:
        fields.missing("exactly one of 'amount', 'unlimited: true', 'value' must be given")
    if found.value is not None and found.every_months is not None:
        fields.refuse("every", "a value does not renew")
    if found.anchor is not Anchor.CONTRACT and found.every_months is None:
        fields.refuse("anchor", "needs 'every': what is given once has no periods")
    if found.rollover_max is not None and (found.amount is None or found.every_months is None):
        fields.refuse("rollover_max", "needs an 'amount' that is granted 'every' so often")


PRIORITY = integer(least=-1_000_000, most=1_000_000)
_ENTITLEMENT = Record(
    Entitlement,
    need("feature", FEATURE),
    may("amount", QUANTITY_GIVEN),
    may("unlimited", BOOLEAN),
    may("value", WORD),
    may("every", _EVERY, "every_months"),
    may("anchor", choice(Anchor)),
    may("limit", choice(Limit)),
    may("rollover_max", QUANTITY_GIVEN),
    may("priority", PRIORITY),
    check=_check_entitlement,
)
ENTITLEMENTS = listed(_ENTITLEMENT.codec)


def check_ids(prices: Iterable[tuple[str, Price]], fields: Fields) -> None:
    """Two prices may share an explicit id only at different times (or billing periods)."""
    named: dict[str, list[tuple[str, Price]]] = {}
    for place, price in prices:
        if price.id is not None:
            named.setdefault(price.id, []).append((place, price))
    for name, found in named.items():
        for (_, first), (place, second) in combinations(found, 2):
            if _overlap(first, second):
                fields.node.problems.note(
                    step(place, "id"), f"'{name}' already names another price at that time"
                )
                break


def _overlap(first: Price, second: Price) -> bool:
    return not (_ends_before(first, second) or _ends_before(second, first))


def _ends_before(first: Price, second: Price) -> bool:
    until, since = first.effective_until, second.effective_from
    if until is not None and since is not None and in_utc(until) <= in_utc(since):
        return True
    last, begin = first.to_period, second.from_period
    return last is not None and begin is not None and last < begin


def _check_book(book: Pricebook, fields: Fields) -> None:
    base = f"{fields.node.pointer}/prices"
    check_ids(((step(base, index), price) for index, price in enumerate(book.prices)), fields)


PRICEBOOKS = Record(
    Pricebook,
    need("currency", CURRENCY),
    need("invoicing", INVOICING),
    may("prorate", PRORATE),
    need("prices", listed(PRICE.codec, most=PRICES_MAX)),
    may("entitlements", ENTITLEMENTS),
    check=_check_book,
)
