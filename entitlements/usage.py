"""The events a consume records: built so that the feature's own meter counts the amount."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import msgspec

from catalog.clock import Micros
from catalog.errors import DomainError, InvalidRequest
from catalog.ids import CustomerId, Subject
from catalog.meters import Aggregation, Condition
from catalog.periods import FOREVER
from catalog.snapshot import Catalog
from entitlements.amounts import UNIT, to_text
from entitlements.ports import KEPT_US, KeyRecord, UsageEvent
from entitlements.schedules import Reading, bounds

COUNT_MAX = 1_000
"""A consume on a count meter records an event for each unit: at most so many."""

EVENTS_BYTES_MAX = 16 * 1024**2
"""The ``data`` of all events of one request: they are one piece of the log, which has a limit."""

MARK = "tallyman"
"""The member of ``data`` in which a consume's last event carries its key."""

_SAFE_DIGITS = 15

_encode = msgspec.json.Encoder().encode
_drafted = msgspec.json.Decoder(tuple[str, list[tuple[str, int, str]]]).decode
_compact = json.JSONEncoder(separators=(",", ":")).encode


class NotConsumable(DomainError):
    """The feature has nothing that a consume could record."""

    code = "not_consumable"


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a consume, checked: what to record for it."""

    reading: Reading
    amount: int
    dimensions: Mapping[str, str]
    data: Mapping[str, object]


def hold_id(customer: CustomerId, key: str, now: int) -> str:
    """The id of a consume's hold and event: the same for retries within a day of the clock.

    Should Redis forget the key, the log still sees the same identity. A day later the key is
    free again, and so must the identity be.
    """
    return f"consume-{_hashed(customer, key, now)}"


def reservation_id(customer: CustomerId, key: str, digest: str, now: int) -> str:
    """The id of a reservation; another one for other content, since the log compares no holds."""
    return f"reserve-{_hashed(customer, f'{key}{digest}', now)}"


def _hashed(customer: CustomerId, key: str, now: int) -> str:
    text = f"{customer}\0{key}\0{now // KEPT_US}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The subjects a customer has in ``[since, until)``, in the order stated."""

    customer: CustomerId
    since: Micros
    until: Micros
    subjects: tuple[Subject, ...]

    def subject(self, asked: str | None) -> str:
        """The subject a consume is recorded for: the one asked for, else the first.

        Raises:
            InvalidRequest: the subject is not the customer's now, or there is none.
        """
        if asked is None and self.subjects:
            return self.subjects[0]
        if asked is not None and asked in self.subjects:
            return asked
        raise InvalidRequest(f"subject {asked!r} is not {self.customer}'s now, or it has none")


def claim_of(catalog: Catalog, customer: CustomerId, now: int) -> Claim:
    """Whose usage the customer's consumes are at ``now``, and for how long that holds."""
    chain = catalog.customers.get(customer)
    spans = []
    cuts = [0, FOREVER]
    for version in chain.versions if chain else ():
        outer = bounds(version.effective_from, version.effective_until, catalog.timezone)
        cuts += outer
        for stated in version.value.subjects:
            inner = bounds(stated.since, stated.until, catalog.timezone)
            cuts += inner
            spans.append((max(outer[0], inner[0]), min(outer[1], inner[1]), stated.subject))
    return Claim(
        customer=customer,
        since=Micros(max(cut for cut in cuts if cut <= now)),
        until=Micros(min(cut for cut in cuts if cut > now)),
        subjects=tuple(subject for since, until, subject in spans if since <= now < until),
    )


def draft(subject: str, uses: Sequence[Use]) -> str:
    """Everything the events depend on but the decision itself, as text to keep with the key.

    Raises:
        InvalidRequest: the feature's meter would not count an event, or they are too large.
    """
    return _text([subject, bodies_of(uses)])


def bodies_of(uses: Sequence[Use]) -> list[tuple[str, int, str]]:
    """The :func:`body` of each use.

    Raises:
        InvalidRequest: a meter would not count one, or they are too large together.
    """
    bodies = [body(use) for use in uses]
    if sum(count * len(data) for _, count, data in bodies) > EVENTS_BYTES_MAX:
        raise InvalidRequest(
            f"data is written with each unit of a count: over {EVENTS_BYTES_MAX} bytes in all"
        )
    return bodies


def body(use: Use) -> tuple[str, int, str]:
    """Type, number and ``data`` (JSON text) of the events that a use is recorded as.

    Raises:
        InvalidRequest: the feature's meter would not count such an event.
    """
    meter = use.reading.meter
    count = use.amount // UNIT if meter.aggregation is Aggregation.COUNT else 1
    data = _data(use)
    # What the caller sent may hold numbers of any size; what the service makes does not.
    return meter.event_types[0], count, _compact(data) if use.data else _text(data)


def events_of(customer: CustomerId, record: KeyRecord) -> list[UsageEvent]:
    """The events of an allowed consume. The same record gives the same bytes.

    The last one has the hold's id and carries the key: when the reader applies it, all are.
    """
    subject, drafted = _drafted(record.request)
    bodies = [(kind, data) for kind, count, data in drafted for _ in range(count)]
    answer = [None if left is None else str(left) for left in record.balances]
    mark = {"customer": customer, "key": record.key, "request": record.digest, "answer": answer}
    last = len(bodies) - 1
    return [
        UsageEvent(
            id=record.hold if index == last else f"{record.hold}.{index}",
            type=kind,
            subject=subject,
            time=record.at,
            data=marked(data, mark) if index == last else data,
        )
        for index, (kind, data) in enumerate(bodies)
    ]


def marked(data: str, mark: Mapping[str, object]) -> str:
    """The text of an event's ``data``, with the service's own member behind the others."""
    comma = "" if data == "{}" else ","
    return f'{data[:-1]}{comma}"{MARK}":{_text(mark)}}}'


def _text(value: object) -> str:
    return _encode(value).decode()


def record_of(hold: str, at: Micros, data: str) -> tuple[CustomerId, KeyRecord] | None:
    """The key an applied event carries, read back from the log; None for any other event."""
    try:
        mark = json.loads(data)[MARK]
        left = tuple(None if text is None else int(text) for text in mark["answer"])
        record = KeyRecord(
            key=mark["key"],
            hold=hold,
            digest=mark["request"],
            at=at,
            balances=left,
            confirmed=True,
        )
        return CustomerId(mark["customer"]), record
    except (KeyError, TypeError, ValueError):
        return None


def _data(use: Use) -> dict[str, object]:
    """``data`` with the amount and the dimensions at the paths where the meter reads them."""
    meter = use.reading.meter
    data: dict[str, object] = json.loads(json.dumps(dict(use.data))) if use.data else {}
    paths = dict(meter.dimensions)
    for name, value in use.dimensions.items():
        if name not in paths:
            raise InvalidRequest(f"meter {meter.id} has no dimension {name!r}")
        _put(data, paths[name], value)
    if meter.aggregation is not Aggregation.COUNT and meter.value is not None:
        _put(data, meter.value, _number(use.amount))
    for condition in meter.filter:
        _satisfy(data, condition)
    return data


def _number(amount: int) -> int | str:
    """A whole number where every reader keeps it exact, else text."""
    text = to_text(amount)
    return int(text) if text.isdigit() and len(text) <= _SAFE_DIGITS else text


def _satisfy(data: dict[str, object], condition: Condition) -> None:
    """Fill in what a filter demands where only one value will do; refuse what fails it."""
    found = _get(data, condition.path)
    if found is None and condition.included is not None and len(condition.included) == 1:
        if not condition.optional:
            _put(data, condition.path, condition.included[0])
        return
    if not _passes(found, condition):
        raise InvalidRequest(
            f"{condition.path} = {found!r} fails the meter's filter: give it in dimensions or data"
        )


def _passes(found: str | None, condition: Condition) -> bool:
    if condition.exists is False:
        return found is None
    if found is None:
        return condition.optional
    if condition.included is not None and found not in condition.included:
        return False
    return condition.excluded is None or found not in condition.excluded


def _get(data: Mapping[str, object], path: str) -> str | None:
    value: object = data
    for step in _steps(path):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _put(data: dict[str, object], path: str, value: object) -> None:
    *parents, last = _steps(path)
    if MARK in {*parents[:1], last if not parents else ""}:
        raise InvalidRequest(f"{path} is the service's own: no meter may read it")
    place = data
    for step in parents:
        inner = place.setdefault(step, {})
        if not isinstance(inner, dict):
            raise InvalidRequest(f"data is not an object at {step!r}, where {path} leads through")
        place = inner
    place[last] = value


def _steps(path: str) -> list[str]:
    return path.removeprefix("data.").split(".")
