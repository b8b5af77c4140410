"""Every call but record(), as steps: what is sent and how the answer is read, written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from tallyman_client._delivery import EVENTS_PATH, Delivery, OnAttempt, reading
from tallyman_client._encoding import (
    Data,
    amount_text,
    exact_object,
    instant_of_time,
    write_json,
)
from tallyman_client._errors import TallymanError
from tallyman_client._ids import new_id
from tallyman_client._options import Options
from tallyman_client._results import Decision, Entitlement, Item, Items, Receipt, Reservation
from tallyman_client._steps import Ambient, Request, Steps, exchange

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
PAGE_LIMIT = 1_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What consume and reserve ask for. Without ``key`` one is made, once for all retries."""

    customer: str
    items: Items
    key: str | None = None
    subject: str | None = None
    data: Data | None = None
    ttl_s: int | None = None


class Calls:
    """The service's calls over one set of options. ``on_attempt`` is told of every attempt."""

    def __init__(self, options: Options, ambient: Ambient, *, on_attempt: OnAttempt) -> None:
        self._options = options
        self._ambient = ambient
        self._on_attempt = on_attempt

    def check(self, checks: Sequence[tuple[str, Items]]) -> Steps[list[Decision]]:
        """May they? In the order asked; nothing is taken."""
        asked = [{"customer": customer, "items": _items(items)} for customer, items in checks]
        request = _post("/v1/entitlements/check", {"checks": asked})

        def read(answer: Any) -> list[Decision]:
            rows = zip(checks, answer["results"], strict=True)
            return [Decision.of(customer, row) for (customer, _), row in rows]

        return (yield from self._asked(request, read))

    def consume(self, use: Use) -> Steps[Decision]:
        """Take all items or none."""
        key = use.key or new_id(self._ambient.time_ns())
        request = _post(_entitlements(use.customer, "consume"), _use(use, key))

        def read(answer: Any) -> Decision:
            return Decision.of(use.customer, answer, key=key)

        return (yield from self._taken(request, read, key=key))

    def reserve(self, use: Use) -> Steps[Reservation]:
        """Hold all items or none."""
        key = use.key or new_id(self._ambient.time_ns())
        request = _post(_entitlements(use.customer, "reserve"), _use(use, key))

        def read(answer: Any) -> Reservation:
            return Reservation.of(use.customer, answer, key=key)

        return (yield from self._taken(request, read, key=key))

    def settle(self, customer: str, reservation: str, items: Items | None) -> Steps[dict[str, Any]]:
        """Turn a reservation into usage: of ``items``, or of all that was reserved."""
        body: dict[str, Any] = {"reservation": reservation}
        if items is not None:
            body["items"] = _items(items)
        return (yield from self._taken(_post(_entitlements(customer, "settle"), body), _object))

    def release(self, customer: str, reservation: str) -> Steps[dict[str, Any]]:
        """Give a reservation back."""
        request = _post(_entitlements(customer, "release"), {"reservation": reservation})
        return (yield from self._taken(request, _object))

    def entitlements(self, customer: str) -> Steps[list[Entitlement]]:
        """Where the customer stands with every feature any contract names."""
        request = Request(method="GET", path=_entitlements(customer))

        def read(answer: Any) -> list[Entitlement]:
            return [Entitlement.of(row) for row in answer["items"]]

        return (yield from self._asked(request, read))

    def entitlement(self, customer: str, feature: str) -> Steps[Entitlement]:
        """Where the customer stands with one feature."""
        request = Request(method="GET", path=_entitlements(customer, quote(feature, safe="")))
        return (yield from self._asked(request, Entitlement.of))

    def totals(self, period: str, filters: Mapping[str, object]) -> Steps[dict[str, Any]]:
        """Every line of a period, all pages as of the first one's ``as_of``."""
        params = {name: _param(value) for name, value in filters.items() if value is not None}
        params |= {"period": period, "limit": str(PAGE_LIMIT)}
        whole = page = yield from self._called(_get("/v1/totals", params), _page)
        while page["next_cursor"] is not None:
            params |= {"as_of": whole["as_of"], "cursor": page["next_cursor"]}
            page = yield from self._called(_get("/v1/totals", params), _page)
            whole["items"] += page["items"]
        return whole | {"next_cursor": None}

    def post_columns(self, content: bytes, *, content_type: str) -> Steps[Receipt]:
        """Post an Arrow or Parquet body as it is."""
        request = Request(
            method="POST", path=EVENTS_PATH, content=content, content_type=content_type
        )
        return (yield from self._called(request, reading()))

    def send_events(self, events: Iterable[bytes]) -> Steps[Receipt]:
        """Send encoded events batch by batch, each until it has an outcome."""
        receipt = Receipt()
        for batch in batches(events, self._options):
            delivery = Delivery(batch, self._options, first_index=receipt.received)
            receipt += yield from delivery.steps(self._options.calls, self._ambient)
        return receipt

    def _asked(self, request: Request, read: Callable[[Any], T]) -> Steps[T]:
        return (
            yield from exchange(
                request, self._options.check, self._ambient, read=read, on_attempt=self._attempted
            )
        )

    def _called(self, request: Request, read: Callable[[Any], T]) -> Steps[T]:
        return (
            yield from exchange(
                request, self._options.calls, self._ambient, read=read, on_attempt=self._attempted
            )
        )
