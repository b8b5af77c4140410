"""Entitlements over HTTP, in plain ASGI: consume, check, and balances.

All three are answered by the gateway: it has the catalog, the ledger's connection and the log.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from api.hot.body import read_flags, read_page
from api.hot.dispatch import respond_json
from api.paging import slice_page
from catalog.clock import Clock, to_rfc3339
from catalog.errors import FieldError, InvalidRequest
from catalog.ids import CustomerId, FeatureId
from catalog.periods import FOREVER
from entitlements.amounts import UNIT, parse_amount, to_text
from entitlements.balances import Balance, balance_of, features_of
from entitlements.burndown import Lot
from entitlements.decisions import Decisions
from entitlements.patience import SEEDING_POLL_S, SEEDING_WAIT_S
from entitlements.ports import Account, Ledger, LedgerUnavailable
from entitlements.requests import Consume, Decision, Item, ItemDecision
from entitlements.schedules import Schedules
from entitlements.usage import MARK
from ingest.batch import BodyTooLarge, UnreadableBody
from ingest.jsontext import DEPTH_MAX, NotStrictJson, parse_strict

BODY_BYTES_MAX = 1024**2
KEY_BYTES_MAX = 255
ITEMS_MAX = 100
CHECKS_MAX = 1_000
DATA_BYTES_MAX = 16 * 1024
DATA_DEPTH_MAX = 16
INTEGER_MAX = 10**38

_CUSTOMER = "/v1/customers/{customer}/entitlements"
PATHS = {
    "consume": ("POST", f"{_CUSTOMER}/consume"),
    "check": ("POST", "/v1/entitlements/check"),
    "list": ("GET", _CUSTOMER),
    "read": ("GET", f"{_CUSTOMER}/{{feature}}"),
}
"""(method, path) of each handler, for the gateway's routes."""

_PATH = re.compile(r"\$((?:\.[A-Za-z_]+|\[\d+\]|\[\.\.\.\])*)")


class ItemBody(msgspec.Struct, forbid_unknown_fields=True):
    """One item of a request."""

    feature: str
    amount: str | int | None = None
    dimensions: dict[str, str] = {}


class _Consume(msgspec.Struct, forbid_unknown_fields=True):
    items: list[ItemBody]
    key: str
    subject: str | None = None
    data: dict[str, Any] = {}


class _Check(msgspec.Struct, forbid_unknown_fields=True):
    customer: str
    items: list[ItemBody]


class _Checks(msgspec.Struct, forbid_unknown_fields=True):
    checks: list[_Check]


def exact(text: str) -> float:
    """A fraction in ``data``, if writing it again gives the same number."""
    if Decimal(text) != Decimal(repr(float(text))):
        raise ValueError(f"{text[:40]} is not kept exactly as a JSON number: send it as a string")
    return float(text)


_consume = msgspec.json.Decoder(_Consume, float_hook=exact)
_checks = msgspec.json.Decoder(_Checks)


class ConsumeEntitlements:
    """POST …/consume: use all items now or none. A 200 that allows is durable."""

    def __init__(self, *, decisions: Decisions) -> None:
        self._decisions = decisions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        read_flags(scope, ())
        body = decoded(_consume, await body_of(receive))
        check_key(body.key)
        check_data(body.data)
        decision = await self._decisions.consume(
            Consume(
                customer=CustomerId(scope["path_params"]["customer"]),
                items=items_of(body.items, at="/items", needs_amount=True),
                key=body.key,
                subject=body.subject,
                data=body.data,
            )
        )
        await respond_json(send, shown_decision(decision))


class CheckEntitlements:
    """POST /v1/entitlements/check: what would be allowed now; nothing is consumed."""

    def __init__(self, *, decisions: Decisions) -> None:
        self._decisions = decisions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, its checks in the order given."""
        read_flags(scope, ())
        body = decoded(_checks, await body_of(receive))
        if not 1 <= len(body.checks) <= CHECKS_MAX:
            raise wrong("/checks", f"must be 1 to {CHECKS_MAX} checks")
        asked = [
            (CustomerId(one.customer), items_of(one.items, at=f"/checks/{index}/items"))
            for index, one in enumerate(body.checks)
        ]
        decided = await self._decisions.check_all(asked)
        results = [
            {"customer": customer, **shown_decision(decision)}
            for (customer, _), decision in zip(asked, decided, strict=True)
        ]
        await respond_json(send, {"results": results})


class ReadEntitlements:
    """GET …/entitlements and …/entitlements/{feature}: where the customer stands."""

    def __init__(self, *, ledger: Ledger, schedules: Callable[[], Schedules], clock: Clock) -> None:
        self._ledger = ledger
        self._schedules = schedules
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: one feature, or a list of all that any contract names."""
        del receive
        customer = CustomerId(scope["path_params"]["customer"])
        named = scope["path_params"].get("feature")
        cursor = None
        if named is None:
            limit, after = read_page(scope)
            filed = features_of(self._schedules(), customer)
            page, cursor = slice_page(filed, limit, after, key=str)
            wanted = list(page)
        else:
            read_flags(scope, ())
            wanted = [FeatureId(named)]
        account = await self._account(customer, wanted)
        schedules, now = self._schedules(), self._clock.now_us()
        as_of = to_rfc3339(self._ledger.watermark)
        shown = [
            _balance(balance_of(schedules, customer, feature, account=account, now=now))
            | {"as_of": as_of}
            for feature in wanted
        ]
        if named is not None:
            await respond_json(send, shown[0])
        else:
            await respond_json(send, {"items": shown, "next_cursor": cursor})

    async def _account(self, customer: CustomerId, features: Sequence[FeatureId]) -> Account:
        """The account, filed under the present schedules: waits a moment for a new contract's.

        Raises:
            LedgerUnavailable: it is being rebuilt, or not reachable.
        """
        for _ in range(int(SEEDING_WAIT_S / SEEDING_POLL_S)):
            filed = self._schedules().metered(customer)
            wanted = {f: filed[f].digest for f in features if f in filed}
            if not wanted:
                return Account()
            account = await self._ledger.account(customer, now=self._clock.now_us())
            if account is not None and wanted.items() <= account.schedules.items():
                return account
            await asyncio.sleep(SEEDING_POLL_S)
        raise LedgerUnavailable("the entitlement ledger is being rebuilt")


def check_key(key: str) -> None:
    """Refuse an idempotency key that is empty or too long.

    Raises:
        InvalidRequest: it is.
    """
    if not 1 <= len(key.encode(errors="surrogatepass")) <= KEY_BYTES_MAX:
        raise wrong("/key", f"must be 1 to {KEY_BYTES_MAX} bytes")


def check_data(data: dict[str, Any]) -> None:
    """Refuse what an event could not carry, and what the service itself writes there.

    Raises:
        InvalidRequest: it is too deep, too large, or has the service's own member.
    """
    if MARK in data:
        raise wrong(f"/data/{MARK}", "is the service's own")
    depth, level = 1, list(data.values())
    while level:
        depth += 1
        inner: list[object] = []
        for held in level:
            if isinstance(held, dict):
                inner += held.values()
            elif isinstance(held, list):
                inner += held
            elif isinstance(held, int) and abs(held) >= INTEGER_MAX:
                raise wrong("/data", "has an integer of over 38 digits: send it as a string")
        level = inner
    if depth > DATA_DEPTH_MAX:
        raise wrong("/data", f"must be at most {DATA_DEPTH_MAX} levels deep")
    if len(json.dumps(data)) > DATA_BYTES_MAX:
        raise wrong("/data", f"must be at most {DATA_BYTES_MAX} bytes")


def items_of(given: Sequence[ItemBody], *, at: str, needs_amount: bool = False) -> tuple[Item, ...]:
    """The items of a request.

    Raises:
        InvalidRequest, OutOfRange: none, too many, or an amount that is none.
    """
    if not 1 <= len(given) <= ITEMS_MAX:
        raise wrong(at, f"must be 1 to {ITEMS_MAX} items")
    return tuple(
        _item(one, f"{at}/{index}", needs_amount=needs_amount) for index, one in enumerate(given)
    )


def _item(given: ItemBody, at: str, *, needs_amount: bool) -> Item:
    if given.amount is None and needs_amount:
        raise wrong(f"{at}/amount", "is required")
    amount = UNIT if given.amount is None else parse_amount(given.amount, pointer=f"{at}/amount")
    return Item(feature=FeatureId(given.feature), amount=amount, dimensions=given.dimensions)


def shown_decision(decision: Decision) -> dict[str, Any]:
    """A decision as JSON."""
    return {"allowed": decision.allowed, "items": [_shown_item(item) for item in decision.items]}


def _shown_item(item: ItemDecision) -> dict[str, Any]:
    return {
        "feature": item.feature,
        "allowed": item.allowed,
        "balance": _text(item.balance),
        "reason": item.reason,
    }


def _balance(balance: Balance) -> dict[str, Any]:
    shown = {
        "feature": balance.feature,
        "has_access": balance.has_access,
        "allowance": _text(balance.allowance),
        "used": _text(balance.used),
        "held": _text(balance.held),
        "balance": _text(balance.balance),
        "overage": _text(balance.overage),
        "resets_at": None if balance.resets_at is None else to_rfc3339(balance.resets_at),
        "grants": [_lot(lot) for lot in balance.grants],
    }
    return shown if balance.value is None else shown | {"value": balance.value}


def _lot(lot: Lot) -> dict[str, Any]:
    grant = lot.grant
    unlimited = grant.unlimited
    return {
        "id": grant.given or grant.id,
        "amount": None if unlimited else to_text(lot.amount),
        "remaining": None if unlimited else to_text(lot.remaining),
        "priority": grant.priority,
        "effective_at": to_rfc3339(grant.effective),
        "expires_at": None if grant.expires >= FOREVER else to_rfc3339(grant.expires),
    }


def _text(nanos: int | None) -> str | None:
    return None if nanos is None else to_text(nanos)


async def body_of(receive: Receive) -> bytes:
    """The request's body.

    Raises:
        UnreadableBody, BodyTooLarge: it broke off, or is too large.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise UnreadableBody("the client left before its body arrived")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > BODY_BYTES_MAX:
            raise BodyTooLarge(f"the body is over {BODY_BYTES_MAX} bytes")
        if not message.get("more_body", False):
            return b"".join(chunks)


def decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """A body as the struct it must be.

    Raises:
        UnreadableBody, InvalidRequest: it is not JSON, or not this.
    """
    try:
        # The decoder keeps the last of two equal keys. How deep data may be is checked later.
        parse_strict(body.decode(), depth=-DEPTH_MAX)
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        detail, _, place = str(error).partition(" - at `")
        raise wrong(_pointer(place), detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotStrictJson) as error:
        raise UnreadableBody(f"the body is not JSON: {error}") from error


def _pointer(place: str) -> str:
    """Msgspec's ``$.items[0].amount`` as a JSON pointer."""
    match = _PATH.match(place)
    steps = re.findall(r"[A-Za-z_]+|\d+", match[1]) if match else []
    return "".join(f"/{step}" for step in steps)


def wrong(pointer: str, detail: str) -> InvalidRequest:
    """The error of one wrong field."""
    return InvalidRequest(
        f"{pointer} {detail}".strip(), errors=[FieldError(pointer=pointer, detail=detail)]
    )
