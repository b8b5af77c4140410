"""JSON as text, compared and normalised without losing a digit."""

from __future__ import annotations

import json
from typing import NoReturn

from ingest.numbers import canonical_number

DEPTH_MAX = 32
"""Objects and arrays inside one event may nest this deep, the event itself being the first."""


class NotStrictJson(ValueError):
    """The text is not JSON, or is JSON we refuse: duplicate keys, lone surrogates, too deep."""


class _Number(str):
    """A number by its text, so that no digit is lost and no digit limit applies."""

    __slots__ = ()


def is_number(value: object) -> bool:
    """Whether a parsed value is a number (a number's text is kept as a kind of ``str``)."""
    return isinstance(value, _Number)


def parse_strict(text: str, *, depth: int = 1) -> object:
    """Parse JSON, keeping every number as its text (a ``str`` subclass no JSON string has).

    ``depth`` is where the text stands in its event: the event itself is at 1, its data at 2.

    Raises:
        NotStrictJson: see there. Never anything else, whatever the text.
    """
    try:
        value = _DECODER.decode(text)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise NotStrictJson(_reason(error)) from None
    _check(value, depth=depth)
    return value


def scan_strict(text: str, start: int) -> int:
    """Where the JSON value that begins at ``start`` ends; it need not pass :func:`parse_strict`.

    Raises:
        NotStrictJson: no JSON value begins there.
    """
    try:
        return _LENIENT.raw_decode(text, start)[1]
    except (ValueError, RecursionError) as error:
        raise NotStrictJson(_reason(error)) from None


def canonical_json(text: str) -> str:
    """The one spelling of a JSON value: sorted keys, no spaces, numbers by value.

    Two texts are the same JSON value exactly when their canonical texts are equal. Text that is
    not strict JSON is its own spelling.
    """
    try:
        value = parse_strict(text)
    except NotStrictJson:
        return text
    return dump(_normal(value))


def text_of(text: str) -> str:
    """A JSON value as dimensions and filters see it: strings bare, the rest as JSON text.

    Numbers keep the spelling they were sent in; objects and arrays are canonical.
    """
    if text[:1] not in ('"', "{", "["):
        return text
    try:
        value = parse_strict(text)
    except NotStrictJson:
        return text
    return value if isinstance(value, str) else dump(_normal(value))


def dump(value: object) -> str:
    """Write a parsed value compactly: sorted keys, no needless escapes, numbers as their text."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        pairs = sorted(value.items())
        return "{" + ",".join(f"{dump(key)}:{dump(item)}" for key, item in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return _ENCODER.encode(value)


def _normal(value: object) -> object:
    if isinstance(value, _Number):
        return _Number(canonical_number(value))
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normal(item) for item in value]
    return value


def _check(value: object, *, depth: int) -> None:
    """Refuse what the grammar allows and we do not: depth, and text that is not Unicode."""
    if isinstance(value, str):
        if not value.isascii():
            _encodable(value)
        return
    if not isinstance(value, dict | list):
        return
    if depth > DEPTH_MAX:
        raise NotStrictJson(f"nested deeper than {DEPTH_MAX}")
    for item in value.values() if isinstance(value, dict) else value:
        _check(item, depth=depth + 1)


def _encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotStrictJson("half a surrogate pair is not a character") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotStrictJson("the same key stands twice in one object")
    for key in found:
        _encodable(key)
    return found


def _constant(name: str) -> NoReturn:
    raise NotStrictJson(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_Number, parse_int=_Number, parse_constant=_constant
)
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_LENIENT = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_constant)
