"""Decisions as bytes for the server: what is the same every time is spelled once.

A command is an array of bulk strings (RESP). Spelling the eighteen or so of a decision one by one
would cost more than all the rest that a gateway does for it.
"""

from __future__ import annotations

from functools import lru_cache

from catalog.clock import Micros
from catalog.ids import CustomerId, FeatureId
from entitlements.ports import Demand, Gate, HoldRequest, Slot
from storage.redis.scripts import DECIDE, account_keys, pack, record_key, reservation_key

SPELLED_MAX = 200_000
"""Customers and slots whose spelling is kept; amounts and epochs are fewer."""

REPEATED_MAX = 512
"""A longer text is spelled anew: with ten thousand of some kilobytes a process would be full."""

_SLOT_ARGUMENTS = 7
_ASKED_ARGUMENTS = 4
_HOLD_ARGUMENTS = 5
_COMMAND = 3


def bulk(text: str) -> bytes:
    """One argument."""
    raw = text.encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


_NOTHING = bulk("")
_EVALSHA = bulk("EVALSHA") + bulk(DECIDE.sha)


def decide(demand: Demand, *, epoch: str, lapse: Micros) -> bytes:
    """The call of ``decide.lua`` for a demand."""
    hold, slots = demand.hold, demand.slots
    count = _COMMAND + _ASKED_ARGUMENTS + _SLOT_ARGUMENTS * len(slots)
    account, asked = (
        _account(demand.customer),
        (_argument(epoch), _whole(demand.now), _whole(lapse)),
    )
    if hold is None:
        parts = [b"*%d\r\n" % (count + 3), _EVALSHA, b"$1\r\n3\r\n", account, *asked, _NOTHING]
    else:
        keys = [record_key(demand.customer, hold.key)]
        if hold.expires is not None:
            keys.append(reservation_key(demand.customer, hold.id))
        head = b"*%d\r\n" % (count + _HOLD_ARGUMENTS + 3 + len(keys))
        parts = [head, _EVALSHA, b"$1\r\n%d\r\n" % (3 + len(keys)), account, *map(bulk, keys)]
        parts += [*asked, *_hold(hold, refused=demand.refused)]
        parts.append(_whole(demand.lapses))
    for slot in slots:
        parts += _slot(slot)
    return b"".join(parts)


def _hold(hold: HoldRequest, *, refused: bool) -> list[bytes]:
    # A reserve's request names its deadline; a long one has data, which is another every time.
    repeated = hold.expires is None and len(hold.request) <= REPEATED_MAX
    return [
        bulk(hold.id),
        b"$1\r\n1\r\n" if refused else b"$1\r\n0\r\n",
        _repeated(hold.digest) if repeated else bulk(hold.digest),
        _NOTHING if hold.expires is None else _whole(hold.expires),
        _repeated(hold.request) if repeated else bulk(hold.request),
    ]


def _slot(slot: Slot) -> tuple[bytes, bytes, bytes]:
    # An enum is slow to hash, a choice is not.
    gate = "hard" if slot.gate is Gate.HARD else "soft" if slot.gate is Gate.SOFT else "unlimited"
    place = _place(slot.feature, slot.schedule, slot.segment, gate, slot.opening)
    version = _NOTHING if slot.version is None else _whole(slot.version)
    return place, version, _amount(slot.amount)


def _whole(number: int) -> bytes:
    text = b"%d" % number
    return b"$%d\r\n%b\r\n" % (len(text), text)


@lru_cache(SPELLED_MAX)
def _account(customer: CustomerId) -> bytes:
    return b"".join(map(bulk, account_keys(customer)))


@lru_cache(SPELLED_MAX)
def _place(feature: FeatureId, schedule: str, segment: int, gate: str, opening: int) -> bytes:
    return b"".join(map(bulk, (feature, schedule, str(segment), gate, pack(opening))))


@lru_cache(10_000)
def _amount(nanos: int) -> bytes:
    return bulk(pack(nanos))


@lru_cache(10_000)
def _repeated(text: str) -> bytes:
    """What a customer's consumes have in common."""
    return bulk(text)


@lru_cache(16)
def _argument(text: str) -> bytes:
    return bulk(text)
