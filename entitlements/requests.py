"""What is asked of the entitlement engine, and what it answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from catalog.errors import Conflict
from catalog.ids import CustomerId, FeatureId


class KeyReused(Conflict):
    """The idempotency key stands for another request of this customer."""

    code = "key_reused"


class ReservationExpired(Conflict):
    """The deadline has passed: the reservation's units have returned."""

    code = "reservation_expired"


class ReservationEnded(Conflict):
    """The reservation was settled or released already, with other content."""

    code = "reservation_ended"


class Reason(StrEnum):
    """Why an item is denied."""

    INSUFFICIENT = "insufficient"
    NO_ENTITLEMENT = "no_entitlement"
    EXPIRED = "expired"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    RECOVERING = "recovering"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A feature and how much of it, in nano-units."""

    feature: FeatureId
    amount: int
    dimensions: Mapping[str, str] = {}


class Consume(msgspec.Struct, frozen=True, kw_only=True):
    """What to use now. ``key`` makes a retry the same request."""

    customer: CustomerId
    items: Sequence[Item]
    key: str
    subject: str | None = None
    data: Mapping[str, object] = {}

    @property
    def digest(self) -> str:
        """What must be equal for a retry to be one."""
        return _digest(self.items, self.subject, self.data)


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """What to hold for ``ttl_us``, to be settled or released. Keys are shared with consume."""

    customer: CustomerId
    items: Sequence[Item]
    key: str
    ttl_us: int
    subject: str | None = None

    @property
    def digest(self) -> str:
        """What must be equal for a retry to be one."""
        return _digest(self.items, self.subject, {"ttl_us": self.ttl_us})


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """What was used of a reservation, once and for all: what is not named was not used.

    ``items`` null: all that it holds.
    """

    customer: CustomerId
    reservation: str
    items: Sequence[Item] | None = None
    data: Mapping[str, object] = {}

    @property
    def digest(self) -> str:
        """What must be equal for a retry to be one."""
        return _digest(self.items or (), "settle", self.data)


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation of which nothing was used."""

    customer: CustomerId
    reservation: str


class ItemDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One item's outcome. ``balance`` is null where unlimited, unknown, or nothing is counted."""

    feature: FeatureId
    allowed: bool
    balance: int | None = None
    reason: Reason | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """All or nothing: ``allowed`` is true when every item is."""

    allowed: bool
    items: Sequence[ItemDecision]


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """What a reserve answers: ``reservation`` is null where it is denied."""

    reservation: str | None
    decision: Decision


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_plain = msgspec.json.Encoder().encode


def _digest(items: Sequence[Item], said: object, more: Mapping[str, object]) -> str:
    if not more and not any(item.dimensions for item in items):
        plain = _plain([said, [(item.feature, str(item.amount)) for item in items]])
        return hashlib.sha256(plain).hexdigest()[:24]
    listed = [(i.feature, str(i.amount), sorted(i.dimensions.items())) for i in items]
    text = _canonical([listed, said, more])
    return hashlib.sha256(text.encode()).hexdigest()[:24]
