"""One event's data, by path: what columns (:mod:`ingest.tokens`) say of many, for a single row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

from catalog.meters import Condition
from ingest.jsontext import text_of

Fields = dict[str, msgspec.Raw]
"""The members of an object, each as the JSON text it was sent as."""

_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_objects = msgspec.json.Decoder(Fields)


def fields_of(data: str | bytes) -> Fields:
    """The members of ``data``; none where it is no object that can be read."""
    try:
        return _objects.decode(data)
    except _UNREADABLE:
        return {}


def token_at(fields: Fields, path: str) -> str | None:
    """The JSON text at a path; null where it is absent, or JSON null."""
    *outer, last = keys_of(path)
    for key in outer:
        inner = fields.get(key)
        if inner is None or not bytes(inner).startswith(b"{"):
            return None
        fields = fields_of(bytes(inner))
    found = fields.get(last)
    text = None if found is None else bytes(found).decode()
    return None if text in {"", "null"} else text


@lru_cache(maxsize=1024)
def keys_of(path: str) -> Sequence[str]:
    """The members that a path goes through, from ``data`` on."""
    return tuple(path.removeprefix("data.").split("."))


def spelled(token: str) -> str:
    """A JSON text as a condition or a number reads it: a string without its quotation marks."""
    if token[0] == '"' and "\\" not in token:
        return token[1:-1]
    return text_of(token)


def passes(condition: Condition, fields: Fields) -> bool:
    """Whether an event passes; an absent value only where the condition says so."""
    token = token_at(fields, condition.path)
    if condition.exists is False:
        return token is None
    if token is None:
        return condition.optional
    return _test_of(condition)(spelled(token))


@lru_cache(maxsize=1024)
def _test_of(condition: Condition) -> Callable[[str], bool]:
    included = None if condition.included is None else frozenset(condition.included)
    excluded = frozenset(condition.excluded or ())
    return lambda text: (included is None or text in included) and text not in excluded
