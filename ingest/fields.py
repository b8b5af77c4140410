"""Events' data, by path: one row's members, or some members of many rows as Python objects.

:mod:`ingest.tokens` makes columns of them, with no Python object a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from catalog.meters import Condition
from ingest.jsontext import text_of

Fields = dict[str, msgspec.Raw]
"""The members of an object, each as the JSON text it was sent as."""

ABSENT = msgspec.Raw(b"")
"""Stands for a member that an object has not."""

_UNNAMEABLE = frozenset('"\\') | {chr(code) for code in range(32)}
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_objects = msgspec.json.Decoder(Fields)


def fields_of(data: str | bytes) -> Fields:
    """The members of ``data``; none where it is no object that can be read."""
    try:
        return _objects.decode(data)
    except _UNREADABLE:
        return {}


def members_of(joined: str, keys: tuple[str, ...], *, rows: int) -> list[list[msgspec.Raw]] | None:
    """Some members of many objects, parsed at once: a list a key, a value a row.

    ``joined`` are the objects' texts with commas between. Null where they are not ``rows`` objects,
    or a key cannot be asked for: then each has to be read for itself.
    """
    if any(_UNNAMEABLE.intersection(key) for key in keys):
        return None
    decoder, names = _reader(keys)
    try:
        found = decoder.decode(f"[{joined}]")
    except _UNREADABLE:
        return None
    if len(found) != rows:  # one that was several values, or none
        return None
    return [[getattr(row, name) for row in found] for name in names]


@lru_cache(maxsize=1024)
def _reader(keys: tuple[str, ...]) -> tuple[msgspec.json.Decoder[list[Any]], list[str]]:
    names = [f"f{place}" for place in range(len(keys))]
    fields = [(name, msgspec.Raw, ABSENT) for name in names]
    struct = msgspec.defstruct(
        "Fields", fields, rename=dict(zip(names, keys, strict=True)), gc=False
    )
    return msgspec.json.Decoder(list[struct]), names  # type: ignore[valid-type]


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
