"""Reserve, settle and release over HTTP, in plain ASGI beside consume and check."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from api.hot.body import read_flags
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
from api.hot.shown import shown_decision
from catalog.clock import SECOND_US
from catalog.ids import CustomerId
from entitlements.decisions import Decisions
from entitlements.requests import Release, Reserve, Settle
from entitlements.reservations import Reservations

TTL_S_MAX = 24 * 3_600
RESERVATION_BYTES_MAX = 255

_CUSTOMER = "/v1/customers/{customer}/entitlements"
PATHS = {
    "reserve": ("POST", f"{_CUSTOMER}/reserve"),
    "settle": ("POST", f"{_CUSTOMER}/settle"),
    "release": ("POST", f"{_CUSTOMER}/release"),
}
"""(method, path) of each handler, for the gateway's routes."""


class _Reserve(msgspec.Struct, forbid_unknown_fields=True):
    items: list[ItemBody]
    key: str
    ttl_s: int
    subject: str | None = None

    def texts(self) -> int | None:
        texts = texts_of(self.items)
        return None if texts is None else texts + (4 if self.subject is None else 6)


class _Settle(msgspec.Struct, forbid_unknown_fields=True):
    reservation: str
    items: list[ItemBody] | None = None
    data: dict[str, Any] = {}

    def texts(self) -> int | None:
        texts = None if self.data or self.items is None else texts_of(self.items)
        return None if texts is None else texts + 3


class _Release(msgspec.Struct, forbid_unknown_fields=True):
    reservation: str

    def texts(self) -> int:
        return 2


_reserve = msgspec.json.Decoder(_Reserve)
_settle = msgspec.json.Decoder(_Settle, float_hook=exact)
_release = msgspec.json.Decoder(_Release)


class ReserveEntitlements:
    """POST …/reserve: hold all items for ``ttl_s`` or none. A 200 that allows is durable."""

    def __init__(self, *, decisions: Decisions) -> None:
        self._decisions = decisions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["query_string"]:
            read_flags(scope, ())
        body = decoded(_reserve, await body_of(receive))
        check_key(body.key)
        if not 1 <= body.ttl_s <= TTL_S_MAX:
            raise wrong("/ttl_s", f"must be 1 to {TTL_S_MAX} seconds")
        reserved = await self._decisions.reserve(
            Reserve(
                customer=CustomerId(scope["path_params"]["customer"]),
                items=items_of(body.items, at="/items", needs_amount=True),
                key=body.key,
                ttl_us=body.ttl_s * SECOND_US,
                subject=body.subject,
            )
        )
        counts.decided("reserve", reserved.decision)
        shown = shown_decision(reserved.decision)
        await respond_json(send, {"reservation": reserved.reservation, **shown})


class SettleEntitlements:
    """POST …/settle: record what was used of a reservation, and give the rest back."""

    def __init__(self, *, reservations: Reservations) -> None:
        self._reservations = reservations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["query_string"]:
            read_flags(scope, ())
        body = decoded(_settle, await body_of(receive))
        _check_reservation(body.reservation)
        check_data(body.data)
        items = None
        if body.items is not None:
            items = items_of(body.items, at="/items", needs_amount=True)
        decision = await self._reservations.settle(
            Settle(
                customer=CustomerId(scope["path_params"]["customer"]),
                reservation=body.reservation,
                items=items,
                data=body.data,
            )
        )
        shown = shown_decision(decision)
        await respond_json(send, {"reservation": body.reservation, **shown})


class ReleaseEntitlements:
    """POST …/release: nothing was used, everything is free again."""

    def __init__(self, *, reservations: Reservations) -> None:
        self._reservations = reservations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["query_string"]:
            read_flags(scope, ())
        body = decoded(_release, await body_of(receive))
        _check_reservation(body.reservation)
        customer = CustomerId(scope["path_params"]["customer"])
        await self._reservations.release(Release(customer=customer, reservation=body.reservation))
        await respond_json(send, {"reservation": body.reservation, "released": True})


def _check_reservation(reservation: str) -> None:
    if not 1 <= len(reservation.encode(errors="surrogatepass")) <= RESERVATION_BYTES_MAX:
        raise wrong("/reservation", f"must be 1 to {RESERVATION_BYTES_MAX} bytes")
