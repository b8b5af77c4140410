"""Every call but record(), as steps: what is sent and how the answer is read, written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from tallyman_client._delivery import EVENTS_PATH, Delivery, OnAttempt, reading
from tallyman_client._encoding import Data, amount_text, exact_object, time_text, write_json
from tallyman_client._errors import TallymanError
from tallyman_client._ids import new_id
from tallyman_client._options import Options, Retry
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

        return self._exchange(request, self._options.check, read)

    def consume(self, use: Use) -> Steps[Decision]:
        """Take all items or none."""
        return self._use("consume", use, Decision.of)

    def reserve(self, use: Use) -> Steps[Reservation]:
        """Hold all items or none."""
        return self._use("reserve", use, Reservation.of)

    def settle(
        self, customer: str, reservation: str, *, items: Items | None, data: Data | None
    ) -> Steps[Decision]:
        """Turn a reservation into usage: of ``items``, or of all that was reserved."""
        body: dict[str, Any] = {"reservation": reservation}
        if items is not None:
            body["items"] = _items(items)
        if data is not None:
            body["data"] = exact_object(data, allow_floats=self._options.allow_floats)
        request = _post(_entitlements(customer, "settle"), body)

        def read(answer: Any) -> Decision:
            return Decision.of(customer, {"allowed": True, **answer})

        return self._exchange(request, self._options.consume, read)

    def release(self, customer: str, reservation: str) -> Steps[None]:
        """Give a reservation back."""
        request = _post(_entitlements(customer, "release"), {"reservation": reservation})
        return self._exchange(request, self._options.consume, lambda _: None)

    def entitlements(self, customer: str) -> Steps[list[Entitlement]]:
        """Where the customer stands with every feature any contract names."""
        whole = yield from self._pages(_entitlements(customer), {}, self._options.check)
        return [Entitlement.of(row) for row in whole["items"]]

    def entitlement(self, customer: str, feature: str) -> Steps[Entitlement]:
        """Where the customer stands with one feature."""
        request = Request(method="GET", path=_entitlements(customer, feature))
        return self._exchange(request, self._options.check, Entitlement.of)

    def totals(self, period: str, filters: Mapping[str, object]) -> Steps[dict[str, Any]]:
        """Every line of a period, all pages as of the first one's ``as_of``."""
        params = {name: _param(value) for name, value in filters.items() if value is not None}
        params |= {"period": period, "limit": str(PAGE_LIMIT)}
        return self._pages("/v1/totals", params, self._options.calls)

    def post_columns(self, content: bytes, *, content_type: str) -> Steps[Receipt]:
        """Post an Arrow or Parquet body as it is."""
        request = Request(
            method="POST", path=EVENTS_PATH, content=content, content_type=content_type
        )
        return self._exchange(request, self._options.calls, reading())

    def send_events(self, events: Iterable[bytes]) -> Steps[Receipt]:
        """Send encoded events batch by batch, each until it has an outcome."""
        receipt = Receipt()
        for batch in batches(events, self._options):
            delivery = Delivery(
                batch,
                self._options,
                first_index=receipt.received,
                on_attempt=lambda _, number: self._on_attempt(0, number),
            )
            receipt += yield from delivery.steps(self._options.calls, self._ambient)
        return receipt

    def _use(self, verb: str, use: Use, read: Callable[..., T]) -> Steps[T]:
        key = use.key or new_id(self._ambient.time_ns())
        body: dict[str, Any] = {"items": _items(use.items), "key": key}
        if use.subject is not None:
            body["subject"] = use.subject
        if use.data is not None:
            body["data"] = exact_object(use.data, allow_floats=self._options.allow_floats)
        if use.ttl_s is not None:
            body["ttl_s"] = use.ttl_s
        request = _post(_entitlements(use.customer, verb), body)

        def decided(answer: Any) -> T:
            return read(use.customer, answer, key=key)

        try:
            return (yield from self._exchange(request, self._options.consume, decided))
        except TallymanError as error:
            error.key = key
            raise

    def _pages(self, path: str, params: Mapping[str, str], retry: Retry) -> Steps[dict[str, Any]]:
        request = Request(method="GET", path=path, params=params)
        whole = page = yield from self._exchange(request, retry, _page)
        while page["next_cursor"] is not None:
            more = {"cursor": str(page["next_cursor"])}
            if "as_of" in whole:
                more["as_of"] = whole["as_of"]
            request = Request(method="GET", path=path, params={**params, **more})
            page = yield from self._exchange(request, retry, _page)
            whole["items"] += page["items"]
        return whole | {"next_cursor": None}

    def _exchange(self, request: Request, retry: Retry, read: Callable[[Any], T]) -> Steps[T]:
        def started(number: int) -> None:
            self._on_attempt(0, number)

        return exchange(request, retry, self._ambient, read=read, on_attempt=started)


def batches(events: Iterable[bytes], options: Options) -> Iterator[tuple[bytes, ...]]:
    """Encoded events in batches within the limits; only one batch is held at a time."""
    batch: list[bytes] = []
    size = 2
    for event in events:
        full = len(batch) == options.batch_events_max
        if batch and (full or size + len(event) + 1 > options.batch_bytes_max):
            yield tuple(batch)
            batch, size = [], 2
        batch.append(event)
        size += len(event) + 1
    if batch:
        yield tuple(batch)


def _items(items: Items) -> list[dict[str, Any]]:
    if isinstance(items, Mapping):
        items = [Item(feature=feature, amount=amount) for feature, amount in items.items()]
    return [_item(each) for each in items]


def _item(item: Item) -> dict[str, Any]:
    if not isinstance(item, Item):
        raise TypeError(f'items are {{"feature": amount}} or Items, not {type(item).__name__}')
    shown: dict[str, Any] = {"feature": item.feature, "amount": amount_text(item.amount)}
    return shown | {"dimensions": dict(item.dimensions)} if item.dimensions else shown


def _post(path: str, body: Mapping[str, Any]) -> Request:
    return Request(method="POST", path=path, content=write_json(body).encode())


def _entitlements(customer: str, what: str | None = None) -> str:
    path = f"/v1/customers/{_segment(customer)}/entitlements"
    return path if what is None else f"{path}/{_segment(what)}"


def _segment(text: str) -> str:
    if text in {"", ".", ".."}:
        raise ValueError(f"{text!r} cannot be an id")
    return quote(text, safe="")


def _param(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else time_text(value)


def _page(answer: Any) -> dict[str, Any]:
    return {"next_cursor": None, **answer, "items": list(answer["items"])}
