"""Entitlements over HTTP, in plain ASGI: consume and balances; checks are in :mod:`.checks`.

All are answered by the gateway: it has the catalog, the ledger's connection and the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import orjson
from starlette.types import Receive, Scope, Send

from api.hot.body import read_flags, read_page
from api.hot.counts import counts
from api.hot.decision_bodies import (
    BODY_BYTES_MAX,
    ItemBody,
    body_of,
    check_data,
    check_key,
    decoded,
    exact,
    items_of,
    texts_of,
)
from api.hot.dispatch import respond_json
from api.hot.express import Call
from api.hot.shown import shown_decision, text_of
from api.hot.turns import Turns
from api.paging import slice_page
from catalog.clock import Clock, to_rfc3339
from catalog.ids import CustomerId, FeatureId
from catalog.periods import FOREVER
from entitlements.amounts import to_text
from entitlements.answers import Asked
from entitlements.balances import Balance, balance_of, features_of
from entitlements.burndown import Lot
from entitlements.decisions import Decisions
from entitlements.patience import SEEDING_POLL_S, SEEDING_WAIT_S
from entitlements.ports import Account, Ledger, LedgerUnavailable
from entitlements.requests import Consume, Decision
from entitlements.schedules import Schedules

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


_consume = msgspec.json.Decoder(_Consume, float_hook=exact)


class ConsumeEntitlements:
    """POST …/consume: use all items now or none. A 200 that allows is durable."""

    def __init__(self, *, decisions: Decisions) -> None:
        self._decisions = decisions
        self._turns = Turns(self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["query_string"]:
            read_flags(scope, ())
        asked = _consume_of(scope["path_params"], await body_of(receive))
        await respond_json(send, shown_decision(await self._consumed(asked)))

    def take(self, call: Call) -> bool:
        """Take a request: see :mod:`api.hot.express`.

        Raises:
            DomainError: see :func:`_consume_of` and :meth:`Decisions.ask_consume`.
        """
        if len(call.body) > BODY_BYTES_MAX:
            return False
        request = _consume_of(call.parameters, call.body)
        self._turns.join(call, (request, self._decisions.ask_consume(request)))
        return True

    async def _answer(self, turn: Sequence[tuple[Call, tuple[Consume, Asked]]]) -> None:
        """Answer the calls of one turn of the loop; one that must wait does so alone."""
        decided = await self._decisions.consume_all([asked for _, (_, asked) in turn])
        for (call, (request, _)), decision in zip(turn, decided, strict=True):
            if decision is None:
                call.run(self._alone(request))
            elif isinstance(decision, Exception):
                call.fail(decision)
            else:
                counts.decided("consume", decision)
                call.answer(orjson.dumps(shown_decision(decision)))

    async def _alone(self, request: Consume) -> bytes:
        return orjson.dumps(shown_decision(await self._consumed(request)))

    async def _consumed(self, asked: Consume) -> Decision:
        decision = await self._decisions.consume(asked)
        counts.decided("consume", decision)
        return decision


def _consume_of(parameters: Mapping[str, str], content: bytes) -> Consume:
    """Read a consume.

    Raises:
        UnreadableBody, InvalidRequest, OutOfRange: it is none.
    """
    body = decoded(_consume, content)
    check_key(body.key)
    check_data(body.data)
    return Consume(
        customer=CustomerId(parameters["customer"]),
        items=items_of(body.items, at="/items", needs_amount=True),
        key=body.key,
        subject=body.subject,
        data=body.data,
    )


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


def _balance(balance: Balance) -> dict[str, Any]:
    shown = {
        "feature": balance.feature,
        "has_access": balance.has_access,
        "allowance": text_of(balance.allowance),
        "used": text_of(balance.used),
        "held": text_of(balance.held),
        "balance": text_of(balance.balance),
        "overage": text_of(balance.overage),
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
