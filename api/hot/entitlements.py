"""Entitlements over HTTP, in plain ASGI: consume, check, and balances.

All three are answered by the gateway: it has the catalog, the ledger's connection and the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from api.hot.body import read_flags, read_page
from api.hot.counts import counts
from api.hot.decision_bodies import (
    ItemBody,
    body_of,
    check_data,
    check_key,
    decoded,
    exact,
    items_of,
    texts_of,
    wrong,
)
from api.hot.dispatch import respond_json
from api.paging import slice_page
from api.reach import check_customers
from catalog.clock import Clock, to_rfc3339
from catalog.ids import CustomerId, FeatureId
from catalog.periods import FOREVER
from entitlements.amounts import to_text
from entitlements.balances import Balance, balance_of, features_of
from entitlements.burndown import Lot
from entitlements.decisions import Decisions
from entitlements.patience import SEEDING_POLL_S, SEEDING_WAIT_S
from entitlements.ports import Account, Ledger, LedgerUnavailable
from entitlements.requests import Consume, Decision, ItemDecision
from entitlements.schedules import Schedules

CHECKS_MAX = 1_000

_CUSTOMER = "/v1/customers/{customer}/entitlements"
PATHS = {
    "consume": ("POST", f"{_CUSTOMER}/consume"),
    "check": ("POST", "/v1/entitlements/check"),
    "list": ("GET", _CUSTOMER),
    "read": ("GET", f"{_CUSTOMER}/{{feature}}"),
}
"""(method, path) of each handler, for the gateway's routes."""


class _Consume(msgspec.Struct, forbid_unknown_fields=True):
    items: list[ItemBody]
    key: str
    subject: str | None = None
    data: dict[str, Any] = {}

    def texts(self) -> int | None:
        texts = None if self.data else texts_of(self.items)
        return None if texts is None else texts + (3 if self.subject is None else 5)


class _Check(msgspec.Struct, forbid_unknown_fields=True):
    customer: str
    items: list[ItemBody]


class _Checks(msgspec.Struct, forbid_unknown_fields=True):
    checks: list[_Check]

    def texts(self) -> int | None:
        count = 1
        for check in self.checks:
            texts = texts_of(check.items)
            if texts is None:
                return None
            count += 3 + texts
        return count


_consume = msgspec.json.Decoder(_Consume, float_hook=exact)
_checks = msgspec.json.Decoder(_Checks)


class ConsumeEntitlements:
    """POST …/consume: use all items now or none. A 200 that allows is durable."""

    def __init__(self, *, decisions: Decisions) -> None:
        self._decisions = decisions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["query_string"]:
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
        counts.decided("consume", decision)
        await respond_json(send, shown_decision(decision))


class CheckEntitlements:
    """POST /v1/entitlements/check: what would be allowed now; nothing is consumed."""

    def __init__(self, *, decisions: Decisions) -> None:
        self._decisions = decisions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, its checks in the order given."""
        if scope["query_string"]:
            read_flags(scope, ())
        body = decoded(_checks, await body_of(receive))
        if not 1 <= len(body.checks) <= CHECKS_MAX:
            raise wrong("/checks", f"must be 1 to {CHECKS_MAX} checks")
        asked = [
            (CustomerId(one.customer), items_of(one.items, at=f"/checks/{index}/items"))
            for index, one in enumerate(body.checks)
        ]
        check_customers(scope, (one.customer for one in body.checks))
        decided = await self._decisions.check_all(asked)
        for decision in decided:
            counts.decided("check", decision)
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
