"""What is asked of the entitlement engine, and what it answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A feature and how much of it, in nano-units."""

    feature: FeatureId
    amount: int
    dimensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consume:
    """What to use now. ``key`` makes a retry the same request."""

    customer: CustomerId
    items: tuple[Item, ...]
    key: str
    subject: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What must be equal for a retry to be one."""
        return _digest(self.items, self.subject, self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """What to hold for ``ttl_us``, to be settled or released. Keys are shared with consume."""

    customer: CustomerId
    items: tuple[Item, ...]
    key: str
    ttl_us: int
    subject: str | None = None

    @property
    def digest(self) -> str:
        """What must be equal for a retry to be one."""
        return _digest(self.items, self.subject, {"ttl_us": self.ttl_us})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """What was used of a reservation, once and for all: what is not named was not used.

    ``items`` null: all that it holds.
    """

    customer: CustomerId
    reservation: str
    items: tuple[Item, ...] | None = None
    data: Mapping[str, object] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What must be equal for a retry to be one."""
        return _digest(self.items or (), "settle", self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A reservation of which nothing was used."""

    customer: CustomerId
    reservation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDecision:
    """One item's outcome. ``balance`` is null where unlimited, unknown, or nothing is counted."""

    feature: FeatureId
    allowed: bool
    balance: int | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All or nothing: ``allowed`` is true when every item is."""

    allowed: bool
    items: tuple[ItemDecision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What a reserve answers: ``reservation`` is null where it is denied."""

    reservation: str | None
    decision: Decision


def _digest(items: tuple[Item, ...], *more: object) -> str:
    listed = [(i.feature, i.amount, sorted(i.dimensions.items())) for i in items]
    text = json.dumps([listed, *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
