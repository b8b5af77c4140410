"""The bodies of entitlement requests: strict JSON, checked, with the place of what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.types import Receive

from catalog.errors import FieldError, InvalidRequest
from catalog.ids import FeatureId
from entitlements.amounts import UNIT, parse_amount
from entitlements.requests import Item
from entitlements.usage import MARK
from ingest.batch import BodyTooLarge, UnreadableBody
from ingest.jsontext import DEPTH_MAX, NotStrictJson, parse_strict

BODY_BYTES_MAX = 1024**2
KEY_BYTES_MAX = 255
ITEMS_MAX = 100
DATA_BYTES_MAX = 16 * 1024
DATA_DEPTH_MAX = 16
INTEGER_MAX = 10**38

_PATH = re.compile(r"\$((?:\.[A-Za-z_]+|\[\d+\]|\[\.\.\.\])*)")


class DecisionBody(Protocol):
    """A decoded body."""

    def texts(self) -> int | None:
        """How many JSON strings it is written with, member names too; null: not worth counting."""
        ...


B = TypeVar("B", bound=DecisionBody)


class ItemBody(msgspec.Struct, forbid_unknown_fields=True):
    """One item of a request."""

    feature: str
    amount: str | int | None = None
    dimensions: dict[str, str] = {}


def texts_of(items: Sequence[ItemBody]) -> int | None:
    """The JSON strings of a list of items; see :class:`DecisionBody`."""
    count = 0
    for item in items:
        if item.dimensions:
            return None
        amount = item.amount
        count += 2 if amount is None else 4 if type(amount) is str else 3
    return count


def exact(text: str) -> float:
    """A fraction in ``data``, if writing it again gives the same number."""
    if Decimal(text) != Decimal(repr(float(text))):
        raise ValueError(f"{text[:40]} is not kept exactly as a JSON number: send it as a string")
    return float(text)


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
    if not data:
        return
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


def items_of(given: Sequence[ItemBody], *, at: str, needs_amount: bool = False) -> list[Item]:
    """The items of a request.

    Raises:
        InvalidRequest, OutOfRange: none, too many, or an amount that is none.
    """
    if not 1 <= len(given) <= ITEMS_MAX:
        raise wrong(at, f"must be 1 to {ITEMS_MAX} items")
    return [_item(one, at, index, needs_amount=needs_amount) for index, one in enumerate(given)]


def _item(given: ItemBody, at: str, index: int, *, needs_amount: bool) -> Item:
    if given.amount is not None:
        amount = parse_amount(given.amount, pointer=f"{at}/{index}/amount")
    elif needs_amount:
        raise wrong(f"{at}/{index}/amount", "is required")
    else:
        amount = UNIT
    return Item(feature=FeatureId(given.feature), amount=amount, dimensions=given.dimensions)


async def body_of(receive: Receive) -> bytes:
    """The request's body.

    Raises:
        UnreadableBody, BodyTooLarge: it broke off, or is too large.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    chunks, size = [body], len(body)
    while message.get("more_body", False) and size <= BODY_BYTES_MAX:
        message = await receive()
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if message["type"] == "http.disconnect":
        raise UnreadableBody("the client left before its body arrived")
    if size > BODY_BYTES_MAX:
        raise BodyTooLarge(f"the body is over {BODY_BYTES_MAX} bytes")
    return body if len(chunks) == 1 else b"".join(chunks)


def decoded(decoder: msgspec.json.Decoder[B], body: bytes) -> B:
    """A body as the struct it must be.

    Raises:
        UnreadableBody, InvalidRequest: it is not JSON, or not this.
    """
    try:
        found = decoder.decode(body)
        if not _surely_strict(found, body):
            # The decoder keeps the last of two equal keys. How deep data may be is checked later.
            parse_strict(body.decode(), depth=-DEPTH_MAX)
    except msgspec.ValidationError as error:
        _refuse_loose(body)
        detail, _, place = str(error).partition(" - at `")
        raise wrong(_pointer(place), detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotStrictJson) as error:
        raise UnreadableBody(f"the body is not JSON: {error}") from error
    return found


def _surely_strict(found: DecisionBody, body: bytes) -> bool:
    """Whether no member can be there twice: the strings are those that were read, and no more.

    Without a backslash a string has two quotation marks and nothing else has any, so counting
    these is enough. It costs a hundredth of parsing in Python.
    """
    texts = found.texts()
    return texts is not None and b"\\" not in body and body.count(b'"') == 2 * texts


def _refuse_loose(body: bytes) -> None:
    try:
        parse_strict(body.decode(), depth=-DEPTH_MAX)
    except (UnicodeDecodeError, NotStrictJson) as error:
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
