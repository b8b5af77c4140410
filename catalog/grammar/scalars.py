"""Scalars. From YAML every one is text; in JSON decimals are strings, integers may be numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar, cast
from zoneinfo import ZoneInfo

from catalog.durations import hours_minutes, window_minutes, window_text
from catalog.errors import DomainError
from catalog.grammar.nodes import Codec, Node, shape
from catalog.ids import (
    ContractId,
    CustomerId,
    FeatureId,
    JurisdictionId,
    MeterId,
    PricebookId,
    ProductId,
    Subject,
    is_id,
)
from catalog.moments import moment_text, parse_moment
from catalog.money import AMOUNT, PRICE, QUANTITY, NumberLimit, minor_units, parse_decimal, plain
from catalog.pricebooks import Moment

E = TypeVar("E", bound=StrEnum)
I = TypeVar("I", bound=str)  # noqa: E741

_PATH = re.compile(r"data(\.[^.\s\x00-\x20\x7f\ud800-\udfff]{1,128}){1,16}")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,8})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _text_of(node: Node) -> str:
    if not isinstance(node.value, str):
        raise node.refuse(f"must be text, not {shape(node.value)}")
    return node.value


def text(*, bytes_max: int = 1_024) -> Codec[str]:
    """Any text of 1 to ``bytes_max`` bytes without control characters."""

    def read(node: Node) -> str:
        found = _text_of(node)
        if not 1 <= len(found.encode("utf-8", "surrogatepass")) <= bytes_max:
            raise node.refuse(f"must be text of 1 to {bytes_max} bytes")
        if _CONTROL.search(found) or not _encodable(found):
            raise node.refuse("has a control character or half a surrogate pair")
        return found

    return Codec(read, str)


def _encodable(found: str) -> bool:
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def _loose(node: Node) -> str:
    """Text, or a JSON boolean or integer as its text."""
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, int):
        return str(node.value)
    return TEXT.read(node)


def _identifier(_: Callable[[str], I]) -> Codec[I]:
    def read(node: Node) -> I:
        found = _text_of(node)
        if not is_id(found):
            raise node.refuse(
                f"{found[:40]!r} is not an id: 1 to 128 letters, digits and . _ : -, "
                "a letter or digit first"
            )
        return cast("I", found)

    return Codec(read, str)


def integer(*, least: int, most: int) -> Codec[int]:
    """A whole number in a range, as a number or as text."""

    def read(node: Node) -> int:
        value = node.value
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise node.refuse(f"must be a whole number from {least} to {most}, not {shape(value)}")
        return value

    return Codec(read, int)


def decimal(
    limit: NumberLimit,
    *,
    least: int | None = None,
    most: int | None = None,
    above: int | None = None,
) -> Codec[Decimal]:
    """An exact decimal within ``limit``, at least ``least``, at most ``most``, above ``above``."""

    def read(node: Node) -> Decimal:
        if not isinstance(node.value, str):
            raise node.refuse(f"a decimal must be a string, not {shape(node.value)}")
        try:
            found = parse_decimal(node.value, limit)
        except DomainError as error:
            raise node.refuse(error.detail) from None
        if least is not None and found < least:
            raise node.refuse(f"must be at least {least}")
        if above is not None and found <= above:
            raise node.refuse(f"must be above {above}")
        if most is not None and found > most:
            raise node.refuse(f"must be at most {most}")
        return found

    return Codec(read, plain)


def choice(kind: type[E]) -> Codec[E]:
    """One of a closed set of words."""

    def read(node: Node) -> E:
        found = _loose(node) if isinstance(node.value, bool) else _text_of(node)
        try:
            return kind(found)
        except ValueError:
            words = ", ".join(member.value for member in kind)
            raise node.refuse(f"must be one of {words}, not {found[:40]!r}") from None

    return Codec(read, lambda member: member.value)


def _boolean(node: Node) -> bool:
    if isinstance(node.value, bool):
        return node.value
    if node.value in {"true", "false"}:
        return node.value == "true"
    raise node.refuse(f"must be true or false, not {shape(node.value)}")


def _parsed(parse: Callable[[str], I | Moment | int]) -> Callable[[Node], object]:
    def read(node: Node) -> object:
        found = _text_of(node)
        try:
            return parse(found)
        except DomainError as error:
            raise node.refuse(error.detail) from None

    return read


def _path(node: Node) -> str:
    found = _text_of(node)
    if not _PATH.fullmatch(found):
        raise node.refuse(f"{found[:40]!r} is not a path into the event's data (data.tokens)")
    return found


def _currency(node: Node) -> str:
    found = _text_of(node)
    try:
        minor_units(found)
    except DomainError as error:
        raise node.refuse(error.detail) from None
    return found


def _timezone(node: Node) -> str:
    found = _text_of(node)
    try:
        ZoneInfo(found)
    except (ValueError, OSError, KeyError):
        raise node.refuse(f"{found[:40]!r} is not a time zone of the IANA database") from None
    return found


def _window(node: Node) -> str:
    return window_text(cast("int", _parsed(window_minutes)(node)))


def _hours(node: Node) -> str:
    _parsed(_stretch)(node)
    return cast("str", node.value)


def _stretch(found: str) -> int:
    return hours_minutes(found)[0]


TEXT = text()
NAME = text(bytes_max=256)
WORD = Codec(_loose, str)
BOOLEAN: Codec[bool] = Codec(_boolean, bool)
QUANTITY_GIVEN = decimal(QUANTITY, least=0)
QUANTITY_ABOVE_0 = decimal(QUANTITY, above=0)
SIGNED_PRICE = decimal(PRICE)
AMOUNT_GIVEN = decimal(AMOUNT, least=0)
FACTOR = decimal(PRICE, least=0)
PERCENT = decimal(PRICE, least=0, most=100)
MONTHS = integer(least=1, most=1_200)
PATH = Codec(_path, str)
CURRENCY = Codec(_currency, str)
TIMEZONE = Codec(_timezone, str)
WINDOW = Codec(_window, str)
HOURS = Codec(_hours, str)
MOMENT: Codec[Moment] = Codec(cast("Callable[[Node], Moment]", _parsed(parse_moment)), moment_text)
SUBJECT: Codec[Subject] = cast("Codec[Subject]", text(bytes_max=256))
EVENT_TYPE = text(bytes_max=256)

NAMED = _identifier(str)
METER = _identifier(MeterId)
FEATURE = _identifier(FeatureId)
PRODUCT = _identifier(ProductId)
PRICEBOOK = _identifier(PricebookId)
CUSTOMER = _identifier(CustomerId)
CONTRACT = _identifier(ContractId)
JURISDICTION = _identifier(JurisdictionId)
