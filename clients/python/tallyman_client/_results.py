"""What the service answers, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """How much of a feature is asked for; ``dimensions`` as the feature's meter names them."""

    feature: str
    amount: Decimal | int | str = 1
    dimensions: Mapping[str, str] = field(default_factory=dict)


Items = Mapping[str, Decimal | int | str] | Iterable[Item]
"""``{"tokens": 1834}``, or Items where dimensions matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDecision:
    """One feature's part. ``balance`` is None where unlimited; ``reason`` says why not."""

    feature: str
    allowed: bool
    balance: Decimal | None
    reason: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read the API's form."""
        return cls(
            feature=row["feature"],
            allowed=row.get("allowed", True),
            balance=decimal_of(row.get("balance")),
            reason=row.get("reason"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a customer may: all items or none. True in a condition exactly if allowed.

    ``key`` is what the decision was made under (None for a check, which takes nothing).
    """

    customer: str
    allowed: bool
    items: tuple[ItemDecision, ...]
    key: str | None = None

    def __bool__(self) -> bool:
        return self.allowed

    @classmethod
    def of(cls, customer: str, row: Mapping[str, Any], *, key: str | None = None) -> Self:
        """Read the API's form."""
        items = tuple(map(ItemDecision.of, row["items"]))
        return cls(customer=customer, allowed=row["allowed"], items=items, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What is held until it is settled or released. True in a condition exactly if allowed."""

    customer: str
    reservation: str | None
    allowed: bool
    items: tuple[ItemDecision, ...]
    key: str

    def __bool__(self) -> bool:
        return self.allowed

    @classmethod
    def of(cls, customer: str, row: Mapping[str, Any], *, key: str) -> Self:
        """Read the API's form."""
        return cls(
            customer=customer,
            reservation=row.get("reservation"),
            allowed=row["allowed"],
            items=tuple(map(ItemDecision.of, row["items"])),
            key=key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """Where a customer stands with one feature. None where there is nothing to count.

    ``value`` is a static feature's; ``grants`` are as the API shows them.
    """

    feature: str
    has_access: bool
    allowance: Decimal | None
    used: Decimal | None
    held: Decimal | None
    balance: Decimal | None
    overage: Decimal | None
    value: str | None
    resets_at: datetime | None
    as_of: datetime | None
    grants: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read the API's form."""
        return cls(
            feature=row["feature"],
            has_access=row["has_access"],
            allowance=decimal_of(row.get("allowance")),
            used=decimal_of(row.get("used")),
            held=decimal_of(row.get("held")),
            balance=decimal_of(row.get("balance")),
            overage=decimal_of(row.get("overage")),
            value=row.get("value"),
            resets_at=instant_of(row.get("resets_at")),
            as_of=instant_of(row.get("as_of")),
            grants=tuple(row.get("grants") or ()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An event the service refused for good. ``index`` is its place in what was sent.

    ``event`` is the event as sent (empty for Arrow and Parquet bodies).
    """

    index: int
    id: str | None
    code: str
    detail: str
    event: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of events sent: each is accepted, a duplicate, or rejected."""

    accepted: int = 0
    duplicates: int = 0
    rejected: tuple[Rejection, ...] = ()

    @property
    def received(self) -> int:
        """How many there were."""
        return self.accepted + self.duplicates + len(self.rejected)

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            accepted=self.accepted + other.accepted,
            duplicates=self.duplicates + other.duplicates,
            rejected=self.rejected + other.rejected,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What happened to recorded events so far.

    Each is pending, or one of accepted, duplicate, rejected, dropped. ``sent`` counts an event anew
    at every attempt, ``pending_bytes`` is what the buffer holds. A ``duplicate`` is usually an
    accepted event whose answer was lost.
    ``dropped`` events are those not known to be accepted: no room (``overflow="drop"``), refused as
    a batch, or left at the end. ``retries`` counts repeated requests.
    """

    recorded: int = 0
    pending_bytes: int = 0
    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    dropped: int = 0
    retries: int = 0

    @property
    def pending(self) -> int:
        """How many are waiting or under way."""
        return self.recorded - self.accepted - self.duplicates - self.rejected - self.dropped


def decimal_of(text: str | None) -> Decimal | None:
    """A decimal in the API's form."""
    return None if text is None else Decimal(text)


def instant_of(text: str | None) -> datetime | None:
    """An instant in the API's form."""
    return None if text is None else datetime.fromisoformat(text)
