"""The Lua scripts, and how accounts, amounts and keys are spelled in Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from catalog.clock import Micros
from catalog.ids import CustomerId, FeatureId
from entitlements.ports import KEPT_US, Account, AccountUsage, Ending, KeyRecord, Refill

PREFIX = "tallyman:"
STATE = PREFIX + "ledger"
"""The hash that says which epoch the ledger is, and how far: epoch, ready, watermark, p:<node>."""

KEY_LIFETIME_MS = KEPT_US // 1_000 + 3_600_000
"""Keys are judged by the service's clock; Redis only collects the garbage, an hour later."""

_BASE = 10**15
_CONSTANTS = f"local KEPT_US, KEY_LIFETIME_MS = {KEPT_US}, {KEY_LIFETIME_MS}\n"


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the digest EVALSHA calls it by."""

    text: str
    sha: str


def _load(name: str) -> Script:
    folder = files("storage.redis")
    prelude = folder.joinpath("prelude.lua").read_text(encoding="utf-8")
    text = _CONSTANTS + prelude + folder.joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


DECIDE, CONFIRM, END, CLOSE = (_load(n) for n in ("decide", "confirm", "end", "close"))
APPLY, REFILL = (_load(n) for n in ("apply", "refill"))
SCRIPTS = (DECIDE, CONFIRM, END, CLOSE, APPLY, REFILL)


def account_key(customer: CustomerId) -> str:
    """The hash of a customer's account. Its hash tag is that of every other key of theirs."""
    return f"{PREFIX}{{{customer}}}:account"


def deadlines_key(customer: CustomerId) -> str:
    """The sorted set of holds that may lapse."""
    return f"{PREFIX}{{{customer}}}:deadlines"


def expiries_key(customer: CustomerId) -> str:
    """The sorted set of reservations by deadline."""
    return f"{PREFIX}{{{customer}}}:expiries"


def reservation_key(customer: CustomerId, reservation: str) -> str:
    """One reservation, until a day after its deadline."""
    return f"{PREFIX}{{{customer}}}:reservation:{reservation}"


def account_keys(customer: CustomerId) -> list[str]:
    """What every script is given first."""
    return [account_key(customer), deadlines_key(customer), expiries_key(customer)]


def record_key(customer: CustomerId, key: str) -> str:
    """The record of one idempotency key."""
    return f"{PREFIX}{{{customer}}}:key:{key}"


def pack(nanos: int) -> str:
    """Nano-units as the scripts read them."""
    hi, lo = divmod(nanos, _BASE)
    return f"{hi}:{lo}"


def unpack(text: str) -> int:
    """What the scripts wrote, as nano-units."""
    hi, _, lo = text.partition(":")
    return int(hi) * _BASE + int(lo)


def pack_balances(balances: Sequence[int | None]) -> str:
    """A key's first answer: amounts by item, ``-`` for null."""
    return " ".join("-" if left is None else pack(left) for left in balances)


def unpack_balances(text: str) -> tuple[int | None, ...]:
    """The reverse of :func:`pack_balances`."""
    return tuple(None if left == "-" else unpack(left) for left in text.split())


def end_keys(ending: Ending) -> list[str]:
    """The keys of ``end.lua``."""
    reservation = reservation_key(ending.customer, ending.reservation)
    return [*account_keys(ending.customer), reservation]


def end_arguments(ending: Ending, *, lapse: Micros) -> list[str | int]:
    """The arguments of ``end.lua`` behind the epoch."""
    arguments: list[str | int] = [ending.now, lapse, ending.reservation, ending.kind.value]
    arguments += [ending.digest, ending.lapses, KEY_LIFETIME_MS, ending.request]
    for slot, kept in zip(ending.slots, ending.kept, strict=True):
        version = "" if slot.version is None else slot.version
        arguments += [slot.feature, slot.schedule, slot.segment, slot.gate.value]
        arguments += [pack(slot.opening), version, pack(slot.amount), pack(kept)]
    return arguments


Records = AccountUsage | Refill
"""What is filed beside usage: settled keys, opened and ended reservations."""


def records_keys(filed: Records) -> list[str]:
    """The keys of :func:`records_arguments`, those of the account first."""
    customer = filed.customer
    keys = account_keys(customer)
    keys += [record_key(customer, record.key) for record in filed.settled]
    for opened in filed.opened:
        record = opened.record
        keys += [record_key(customer, record.key), reservation_key(customer, record.hold)]
    return keys + [reservation_key(customer, end.reservation) for end in filed.ended]


def records_arguments(filed: Records) -> list[str | int]:
    """Settled keys, opened and ended reservations as ``apply`` and ``refill`` take them."""
    arguments: list[str | int] = [len(filed.settled)]
    for record in filed.settled:
        arguments += _key_arguments(record)
    arguments.append(len(filed.opened))
    for opened in filed.opened:
        expires = opened.record.expires or opened.record.at
        lifetime_ms = KEY_LIFETIME_MS + max(0, expires - opened.record.at) // 1_000
        entries = "".join(f"|{feature},{at},{pack(held)}" for feature, at, held in opened.places)
        arguments += _key_arguments(opened.record)
        arguments += [expires, opened.record.request, entries, lifetime_ms]
    arguments.append(len(filed.ended))
    for end in filed.ended:
        arguments += [end.reservation, end.kind.value, end.digest, end.at]
        arguments.append(pack_balances(end.balances))
    return arguments


def _key_arguments(record: KeyRecord) -> list[str | int]:
    return [record.hold, record.digest, record.at, pack_balances(record.balances)]


def account_of(
    fields: Mapping[str, str], *, epoch: str | None, lapsed: Collection[str] = ()
) -> Account | None:
    """An account from its hash; None where it is of another epoch or not there.

    ``lapsed`` holds are left out: the next script call would release them.
    """
    if epoch is None or fields.get("e") != epoch:
        return None
    totals: dict[tuple[FeatureId, int], int] = {}
    held: dict[tuple[FeatureId, int], int] = {}
    versions: dict[FeatureId, int] = {}
    schedules: dict[FeatureId, str] = {}
    for name, value in fields.items():
        kind, _, rest = name.partition(":")
        if kind in {"u", "h"}:
            feature, _, segment = rest.rpartition(":")
            amounts = totals if kind == "u" else held
            amounts[FeatureId(feature), int(segment)] = unpack(value)
        elif kind == "v":
            versions[FeatureId(rest)] = int(value)
        elif kind == "g":
            schedules[FeatureId(rest)] = value
    for hold in lapsed:
        for entry in fields.get(f"k:{hold}", "").split("|")[1:]:
            feature, segment, amount = entry.split(",")
            held[FeatureId(feature), int(segment)] -= unpack(amount)
    return Account(totals=totals, held=held, versions=versions, schedules=schedules)


def watermark_of(text: str | None) -> Micros:
    """A published watermark; the beginning of time where there is none."""
    return Micros(int(text or 0))
