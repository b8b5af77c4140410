"""Events and what is derived from them, as frames with named schemas.

Events are never Python objects in bulk. RECORDS is the log, FACTS what meters read from it.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import polars as pl

INSTANT = pl.Datetime("us", "UTC")
QUANTITY = pl.Decimal(38, 9)

EMPTY_DIMENSIONS = "{}"


class RecordKind(IntEnum):
    """What a log record says."""

    EVENT = 1
    VOID = 2
    HOLD = 3
    SETTLE = 4
    RELEASE = 5
    HEARTBEAT = 6
    COLLAPSED = 7


RECORDS = pl.Schema(
    {
        "seq": pl.Int64(),
        "received_at": INSTANT,
        "kind": pl.UInt8(),
        "source": pl.String(),
        "id": pl.String(),
        "type": pl.String(),
        "subject": pl.String(),
        "time": INSTANT,
        "time_given": pl.Boolean(),
        "data": pl.String(),
        "target": pl.Int64(),
    }
)
"""One row a log record of one node, in log order.

``seq`` is 1, 2, 3, … without gaps. ``received_at`` strictly increases. For an event ``time`` is
never null (it is ``received_at`` where the sender gave none: ``time_given`` false) and ``data`` is
the JSON text as received ("{}" where absent). For a void, ``source`` and ``id`` name the event,
``target`` its ``seq`` on the node ``type`` (null: on the same one), ``data`` is ``{"reason": …}``.
For hold, settle and release ``id`` is the reservation, ``subject`` the *customer*, ``data`` the
JSON the ledger replays. A heartbeat has nulls.

The compensations that readers write are a log of their own (``COMPENSATIONS``), of voids and
``collapsed`` copies of all nodes: there ``time`` is the instant from which the event named by
``type`` and ``target`` does not count.
"""

COMPENSATIONS = ".compensations"
"""How the name of that log ends. No gateway's node is called so."""

FACTS = pl.Schema(
    {
        "node": pl.String(),
        "seq": pl.Int64(),
        "spec": pl.String(),
        "subject": pl.String(),
        "time": INSTANT,
        "received_at": INSTANT,
        "value": QUANTITY,
        "text": pl.String(),
        "dimensions": pl.String(),
    }
)
"""One row per (event, fact spec) that matches: what a meter reads from one event.

``value`` is exact; null where the meter reads none (count, unique_count) or it is missing.
``text`` is the value's JSON text for unique_count, else null. ``dimensions`` is a JSON object
of strings with sorted keys and no spaces ("{}" for none; an absent dimension has no key).
A spec that reads a value and finds none writes the row with null ``value`` and ``text``
(`missing_value`).
"""

VOIDS = pl.Schema(
    {
        "node": pl.String(),
        "seq": pl.Int64(),
        "received_at": INSTANT,
        "target_node": pl.String(),
        "target_seq": pl.Int64(),
        "cause": pl.String(),
    }
)
"""One row a compensation: the event at (target_node, target_seq) does not count from
``received_at`` on. ``cause`` is ``void`` or ``collapsed``."""


RESERVED_SOURCE = "tallyman"
"""The ``source`` of events the service itself records: nobody else may use it."""


class RejectCode(StrEnum):
    """Why one event of a body was not accepted."""

    MISSING_FIELD = "missing_field"
    INVALID_FIELD = "invalid_field"
    INVALID_JSON = "invalid_json"
    INVALID_TIME = "invalid_time"
    INVALID_VALUE = "invalid_value"
    INEXACT_NUMBER = "inexact_number"
    TOO_PRECISE = "too_precise"
    OUT_OF_RANGE = "out_of_range"
    TOO_LARGE = "too_large"
    CONFLICT = "conflict"


class UnmatchedReason(StrEnum):
    """Why an accepted event is in no line."""

    NO_METER = "no_meter"
    NO_CUSTOMER = "no_customer"
    NO_CONTRACT = "no_contract"
    NO_PRICE = "no_price"
    MISSING_VALUE = "missing_value"
