"""The Lua scripts, and how accounts, amounts and keys are spelled in Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from catalog.clock import Micros
from catalog.ids import CustomerId, FeatureId
from entitlements.ports import KEPT_US, Account, KeyRecord

PREFIX = "tallyman:"
STATE = PREFIX + "ledger"
"""The hash that says which epoch the ledger is, and how far: epoch, ready, watermark, p:<node>."""

KEY_LIFETIME_MS = KEPT_US // 1_000 + 3_600_000
"""Keys are judged by the service's clock; Redis only collects the garbage, an hour later."""

_BASE = 10**15


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the digest EVALSHA calls it by."""

    text: str
    sha: str


def _load(name: str) -> Script:
    folder = files("storage.redis")
    prelude = folder.joinpath("prelude.lua").read_text(encoding="utf-8")
    text = prelude + folder.joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


DECIDE, CONFIRM, APPLY, REFILL = (_load(n) for n in ("decide", "confirm", "apply", "refill"))
SCRIPTS = (DECIDE, CONFIRM, APPLY, REFILL)


def account_key(customer: CustomerId) -> str:
    """The hash of a customer's account. Its hash tag is that of every other key of theirs."""
    return f"{PREFIX}{{{customer}}}:account"


def deadlines_key(customer: CustomerId) -> str:
    """The sorted set of holds that may lapse."""
    return f"{PREFIX}{{{customer}}}:deadlines"


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


def settled_arguments(record: KeyRecord) -> tuple[str, ...]:
    """A settled key as ``apply`` and ``refill`` take it."""
    return record.hold, record.digest, str(record.at), pack_balances(record.balances)


def account_of(
    fields: Mapping[str, str], *, epoch: str | None, lapsed: Sequence[str] = ()
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
