"""Which events may be accepted: every rule about one event, written once.

:func:`judge` is the rules. Over many events, tests of whole columns first clear the rows that
surely pass, and only the others are judged, so the two never disagree about a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from catalog.clock import Micros
from catalog.events import RESERVED_SOURCE, RejectCode
from ingest.batch import Checked, Columns, Decoded, IngestLimits, Rejection
from ingest.times import EARLIEST_US, LATEST_US, parse_time, parse_times
from ingest.values import IngestRules, Reason, judge_values, unsure_values

_ROWS_WORTH_SCREENING = 8
"""Below this many events the rules themselves are quicker than the tests that spare them."""

_FIELDS = ("source", "id", "type", "subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """What events are held to: the catalog's rules, the limits, and now."""

    rules: IngestRules
    limits: IngestLimits
    now_us: Micros


def validate(decoded: Decoded, standard: Standard) -> Checked:
    """Sort a body's events into those that may be accepted and those that are rejected.

    Rejections, the decoder's too, are in order of index.
    """
    events = decoded.events
    if len(events) < _ROWS_WORTH_SCREENING:
        times, unsure = list(events.time), list(range(len(events)))
    else:
        times, unsure = _screen(events, standard)
    reasons = {}
    for row in unsure:
        judged = judge(events, row, standard)
        if isinstance(judged, tuple):
            reasons[row] = judged
        else:
            times[row] = judged
    events = replace(events, time=times)
    if not reasons and not decoded.rejected:
        return _checked(events, [], decoded)
    rejected = decoded.rejected + [
        Rejection(index=events.index[row], id=events.id[row], code=code, detail=detail)
        for row, (code, detail) in reasons.items()
    ]
    rejected.sort(key=lambda rejection: rejection.index)
    kept = events.keep([row for row in range(len(events)) if row not in reasons])
    return _checked(kept, rejected, decoded)


def _checked(events: Columns, rejected: list[Rejection], decoded: Decoded) -> Checked:
    return Checked(
        records=events.records(),
        index=events.index,
        rejected=rejected,
        size_bytes=decoded.size_bytes,
    )


def judge(events: Columns, row: int, standard: Standard) -> Micros | Reason | None:
    """Apply every rule to one event.

    Returns:
        Its time (null: not given), or the first reason of ``invalid_field``, ``too_large``,
        ``invalid_time``, and then what :func:`ingest.values.judge_values` finds.
    """
    fields = (events.source[row], events.id[row], events.type[row], events.subject[row])
    data, limits = events.data[row], standard.limits
    reason = _judge_fields(fields, limits)
    if reason is not None:
        return reason
    if _size_bytes(data) + sum(map(_size_bytes, fields)) > limits.event_bytes_max:
        return RejectCode.TOO_LARGE, f"the event is larger than {limits.event_bytes_max} bytes"
    time = events.time[row]
    moment = parse_time(time) if isinstance(time, str) else time
    late = None if time is None else _judge_time(moment, standard)
    return late or judge_values(events.type[row], data, standard.rules) or _micros(moment)


def _judge_fields(fields: tuple[str, ...], limits: IngestLimits) -> Reason | None:
    for name, text in zip(_FIELDS, fields, strict=True):
        if not text:
            return RejectCode.INVALID_FIELD, f"{name} is empty"
        if _size_bytes(text) > limits.field_bytes_max:
            return RejectCode.INVALID_FIELD, f"{name} is over {limits.field_bytes_max} bytes"
        if "\x00" in text:
            return RejectCode.INVALID_FIELD, f"{name} has a NUL character"
    if fields[0] == RESERVED_SOURCE:  # else a caller could settle a hold, or take its identity
        return RejectCode.INVALID_FIELD, f"source {RESERVED_SOURCE!r} is the service's own"
    return None


def _judge_time(moment: int | None, standard: Standard) -> Reason | None:
    if moment is None:
        return RejectCode.INVALID_TIME, "time is not RFC 3339 with an offset, to the microsecond"
    if not EARLIEST_US <= moment < LATEST_US:
        return RejectCode.INVALID_TIME, "time is not between 2000 and 2100"
    if moment > _latest_us(standard):
        return RejectCode.INVALID_TIME, "time is more than an hour ahead"
    return None


def _latest_us(standard: Standard) -> int:
    return standard.now_us + standard.limits.ahead_us_max


def _micros(moment: int | None) -> Micros | None:
    return None if moment is None else Micros(moment)


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _screen(events: Columns, standard: Standard) -> tuple[list[str | int | None], list[int]]:
    """Times in microseconds where they were easily read, and the rows that must be judged."""
    unsure: set[int] = set()
    for column in (events.source, events.id, events.type, events.subject):
        unsure.update(_unsure_texts(column, standard.limits.field_bytes_max))
    if RESERVED_SOURCE in events.source:
        unsure.update(row for row, source in enumerate(events.source) if source == RESERVED_SOURCE)
    room = standard.limits.event_bytes_max - len(_FIELDS) * standard.limits.field_bytes_max
    if max(map(len, events.data)) > room // 4:  # of UTF-8's four bytes a character
        unsure.update(row for row, text in enumerate(events.data) if _size_bytes(text) > room)
    times, doubtful = _screen_times(events.time, standard)
    unsure.update(doubtful)
    unsure.update(unsure_values(events, standard.rules))
    return times, sorted(unsure)


def _unsure_texts(column: list[str], bytes_max: int) -> Sequence[int]:
    """Rows that may be empty, too long or hold a NUL."""
    if all(column) and max(map(len, column)) <= bytes_max // 4 and "\x00" not in "".join(column):
        return ()
    return [
        row
        for row, text in enumerate(column)
        if not text or _size_bytes(text) > bytes_max or "\x00" in text
    ]


def _screen_times(
    times: Sequence[str | int | None], standard: Standard
) -> tuple[list[str | int | None], Sequence[int]]:
    latest_us = min(LATEST_US - 1, _latest_us(standard))
    kinds = set(map(type, times))
    if kinds == {type(None)}:
        return list(times), ()
    if kinds == {str}:
        micros, read = parse_times(times)  # type: ignore[arg-type]
    elif kinds == {int}:
        micros, read = np.array(times, np.int64), np.ones(len(times), np.bool_)
    else:
        return list(times), range(len(times))
    sure = read & (micros >= EARLIEST_US) & (micros <= latest_us)
    if sure.all():
        return micros.tolist(), ()
    known: list[str | int | None] = micros.tolist()
    unsure = np.flatnonzero(~sure).tolist()
    for row in unsure:
        known[row] = times[row]
    return known, unsure
