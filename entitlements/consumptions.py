"""What a consume is planned as, but for its key: kept, since most consumes differ in nothing else.

It follows from the catalog and the request, and costs more to work out than all the rest that is
done here for a consume.
"""

from __future__ import annotations

import msgspec

from catalog.clock import Micros
from entitlements.places import Places
from entitlements.ports import Slot
from entitlements.requests import Consume
from entitlements.slots import Planned
from entitlements.usage import draft

KEPT_MAX = 20_000
"""Plans that are kept, at about a kilobyte. At the limit all are forgotten."""

KEPT_ITEMS_MAX = 4
"""A consume of more is planned every time: a hundred items take thirty kilobytes."""

_Place = tuple[str | int | None, ...]


class Terms(msgspec.Struct, frozen=True, eq=False, gc=False, kw_only=True):
    """A consume under one edition of the catalog, in ``[since, until)``.

    ``digest`` and ``drafted`` are those of its hold.
    """

    edition: int
    since: Micros
    until: Micros
    planned: Planned
    slots: tuple[Slot, ...]
    refused: bool
    digest: str
    drafted: str


class Consumptions:
    """Plans consumes. One event loop."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._kept: dict[_Place, Terms] = {}

    def terms(self, request: Consume, now: Micros) -> Terms:
        """What the request is planned as at ``now``.

        Raises:
            NotFound, InvalidRequest, NotConsumable: the request is wrong.
        """
        items = request.items
        if request.data or len(items) > KEPT_ITEMS_MAX or any(item.dimensions for item in items):
            return self._planned(request, now)
        place: _Place = (request.customer, request.subject)
        for item in items:
            place += (item.feature, item.amount)
        terms = self._kept.get(place)
        fits = terms is not None and terms.since <= now < terms.until
        if terms is None or not fits or terms.edition != self._places.edition:
            terms = self._planned(request, now)
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[place] = terms
        return terms

    def _planned(self, request: Consume, now: Micros) -> Terms:
        places, customer = self._places, request.customer
        planned = places.plan(customer, request.items, now=now)
        uses = planned.uses(request.data)
        claim = places.claim(customer, now)
        drafted = draft(claim.subject(request.subject), uses)
        standings = [item.standing for item in planned.items]
        return Terms(
            edition=places.edition,
            since=max(claim.since, *(standing.since for standing in standings)),
            until=min(claim.until, *(standing.until for standing in standings)),
            planned=planned,
            slots=planned.slots,
            refused=planned.refused,
            digest=request.digest,
            drafted=drafted,
        )
