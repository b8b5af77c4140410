"""Reservations as text: what the ledger keeps of them, and what the log does.

A settle's usage lies at two instants. What the hold covers is used when it was reserved: it is
paid by the grants of that time, whatever has reset since. What exceeds it is used now, and is
decided like a consume.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from catalog.clock import Micros
from catalog.events import RecordKind
from catalog.ids import CustomerId, FeatureId
from entitlements.grants import Schedule
from entitlements.ports import End, EndKind, KeyRecord, LedgerEntry, Reservation, UsageEvent
from entitlements.requests import Item, Settle
from entitlements.schedules import Schedules
from entitlements.slots import use_of
from entitlements.usage import bodies_of, marked

_encode = msgspec.json.Encoder().encode
_recorded = msgspec.json.Decoder(tuple[str, list[tuple[str, str, int, str]]]).decode


class _Stated(msgspec.Struct):
    subject: str
    expires: int
    items: Sequence[tuple[str, str, dict[str, str]]]


_stated = msgspec.json.Decoder(_Stated).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a reservation holds, and for whom it will be recorded."""

    id: str
    made: Micros
    expires: Micros
    subject: str
    items: tuple[Item, ...]

    @classmethod
    def of(cls, reservation: Reservation) -> Held:
        """Read back what :func:`draft_hold` wrote."""
        stated = _stated(reservation.request)
        return cls(
            id=reservation.id,
            made=reservation.made,
            expires=reservation.expires,
            subject=stated.subject,
            items=_items(stated.items),
        )

    @property
    def amounts(self) -> dict[FeatureId, int]:
        """Nano-units by feature."""
        return summed(self.items)


def summed(items: Sequence[Item]) -> dict[FeatureId, int]:
    """The items' amounts by feature, in order of first appearance."""
    found: dict[FeatureId, int] = {}
    for item in items:
        found[item.feature] = found.get(item.feature, 0) + item.amount
    return found


def draft_hold(subject: str, items: Sequence[Item], expires: Micros) -> str:
    """Everything a settle needs to know of the reserve, as text to keep with the reservation."""
    listed = [(item.feature, str(item.amount), dict(item.dimensions)) for item in items]
    return _encode(_Stated(subject=subject, expires=expires, items=listed)).decode()


def hold_entry(customer: CustomerId, record: KeyRecord) -> LedgerEntry:
    """The HOLD of an allowed reserve. The same record gives the same bytes."""
    stated: dict[str, object] = {
        "key": record.key,
        "request": record.digest,
        "answer": _answer(record.balances),
    }
    stated["hold"] = msgspec.Raw(record.request.encode())
    return LedgerEntry(
        kind=RecordKind.HOLD,
        reservation=record.hold,
        customer=customer,
        time=record.at,
        data=_encode(stated).decode(),
    )


def record_of_hold(
    reservation: str, at: Micros, data: str
) -> tuple[KeyRecord, Mapping[FeatureId, int]]:
    """A HOLD read back from the log: its key's record and the amounts by feature."""
    stated = json.loads(data)
    held = stated["hold"]
    record = KeyRecord(
        key=stated["key"],
        hold=reservation,
        digest=stated["request"],
        at=at,
        balances=_read_answer(stated["answer"]),
        request=json.dumps(held, separators=(",", ":")),
        confirmed=True,
        expires=Micros(held["expires"]),
    )
    return record, summed(_items(held["items"]))


def end_entry(customer: CustomerId, end: End) -> LedgerEntry:
    """The SETTLE or RELEASE of an end that was decided."""
    settles = end.kind is EndKind.SETTLE
    return LedgerEntry(
        kind=RecordKind.SETTLE if settles else RecordKind.RELEASE,
        reservation=end.reservation,
        customer=customer,
        time=end.at,
        data=_encode({"request": end.digest, "answer": _answer(end.balances)}).decode(),
    )


def end_of_entry(kind: EndKind, reservation: str, at: Micros, data: str) -> End:
    """A SETTLE or RELEASE read back from the log."""
    stated = json.loads(data)
    return End(
        reservation=reservation,
        kind=kind,
        digest=stated["request"],
        at=at,
        balances=_read_answer(stated["answer"]),
        confirmed=True,
    )


def events_of_settle(asked: Settle, held: Held, schedules: Schedules, now: Micros) -> str:
    """The usage of a settle as text: written to the log as it is, however often it is retried.

    Raises:
        NotConsumable, InvalidRequest: a feature's meter would not count it, or it is too large.
    """
    parts = _parts(asked, held, schedules, now)
    uses = [use_of(item, schedules.reading_at(item.feature, at), asked.data) for item, at in parts]
    bodies: list[tuple[Micros, str, str]] = []
    for (_, at), (kind, count, data) in zip(parts, bodies_of(uses), strict=True):
        bodies += [(at, kind, data)] * count
    mark = {"customer": asked.customer, "reservation": held.id}
    events = [
        (f"{held.id}.{index}", kind, at, marked(data, mark))
        for index, (at, kind, data) in enumerate(bodies)
    ]
    return _encode((held.subject, events)).decode()


def usage_events(request: str) -> list[UsageEvent]:
    """What :func:`events_of_settle` wrote; nothing for a release."""
    if not request:
        return []
    subject, events = _recorded(request)
    return [
        UsageEvent(id=name, type=kind, subject=subject, time=Micros(at), data=data)
        for name, kind, at, data in events
    ]


def _parts(
    asked: Settle, held: Held, schedules: Schedules, now: Micros
) -> list[tuple[Item, Micros]]:
    """The items, cut where the hold's units end if those above them are of another segment."""
    left = held.amounts
    parts: list[tuple[Item, Micros]] = []
    for item in asked.items or ():
        if not item.amount:
            continue
        whole = replace(item, dimensions=item.dimensions or _dimensions(held, item.feature))
        covered = item.amount
        schedule = schedules.of(asked.customer).get(item.feature)
        if schedule is None or not _in_one_segment(schedule, held.made, now):
            covered = min(item.amount, left.get(item.feature, 0))
            left[item.feature] = left.get(item.feature, 0) - covered
        if covered:
            parts.append((replace(whole, amount=covered), held.made))
        if covered < item.amount:
            parts.append((replace(whole, amount=item.amount - covered), now))
    return parts


def _in_one_segment(schedule: Schedule, made: Micros, now: Micros) -> bool:
    segment = schedule.segment_at(made)
    return segment is not None and segment.start <= now < segment.end


def _dimensions(held: Held, feature: FeatureId) -> Mapping[str, str]:
    """What the reserve said of the feature, where the settle says nothing."""
    return next((item.dimensions for item in held.items if item.feature == feature), {})


def _items(listed: Sequence[tuple[str, str, Mapping[str, str]]]) -> tuple[Item, ...]:
    return tuple(
        Item(feature=FeatureId(feature), amount=int(amount), dimensions=dimensions)
        for feature, amount, dimensions in listed
    )


def _answer(balances: Sequence[int | None]) -> list[str | None]:
    return [None if left is None else str(left) for left in balances]


def _read_answer(listed: Sequence[str | None]) -> tuple[int | None, ...]:
    return tuple(None if text is None else int(text) for text in listed)
