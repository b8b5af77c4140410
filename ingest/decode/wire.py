"""One CloudEvent in JSON, as msgspec finds it, and whether a text is strict JSON, cheaply.

msgspec checks the grammar to the last byte but keeps the last of duplicate keys. A full parser that
sees them costs ten times as much, so it only reads what :func:`surely_flat` and
:func:`surely_strict` cannot clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from ingest.batch import Columns, Decoded
from ingest.jsontext import DEPTH_MAX

NO_DATA = Raw(b"{}")
NOTHING = Raw(b"")
_BETWEEN = b"\x1f"  # no JSON text contains it: a control character must be escaped
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on bytes it does not accept."""

_COLON, _QUOTE, _SPACE = b':" '
_WORTH_AN_ARRAY_BYTES = 4096
_FLAT_ARRAYS_MAX = 16
_TOO_DEEP = -(2**40)


class Wire(msgspec.Struct, gc=False):
    """An event's attributes. Extension attributes are passed over."""

    id: str
    source: str
    type: str
    subject: str
    specversion: str | UnsetType | None = UNSET
    time: str | UnsetType | None = UNSET
    datacontenttype: str | UnsetType | None = UNSET
    dataschema: str | UnsetType | None = UNSET
    data_base64: Raw = NOTHING
    data: Raw = NO_DATA


_BARE_VERSIONS = frozenset({UNSET, None, "1.0"})
REQUIRED = ("id", "source", "type", "subject")
one_wire = msgspec.json.Decoder(Wire)
many_wires = msgspec.json.Decoder(list[Wire])
many_raws = msgspec.json.Decoder(list[Raw])
_any = msgspec.json.Decoder()
_object = msgspec.json.Decoder(dict[str, Any])
_objects = msgspec.json.Decoder(list[dict[str, Any]])


def surely_flat(
    content: bytes, *, attributes: int, data: Sequence[str]
) -> list[dict[str, Any]] | None:
    """The parsed data of a body that is free of duplicate keys and of nested objects, for certain.

    None means look closer. Every key is followed by ``":``, and nothing else is unless a string
    holds those characters. So if nowhere a space precedes a colon, there are at least as many
    ``":`` as keys were sent, and as many as keys were *found* only if no key stands twice, none is
    unknown and no string confuses the count.

    Args:
        content: the body, which :class:`Wire` could read.
        attributes: how many attributes Wire found in all its events, ``data`` included.
        data: the data of each event, as found.
    """
    inner = "[" + ",".join(data) + "]"
    if inner.count("[") > _FLAT_ARRAYS_MAX:
        return None
    try:
        parsed = _objects.decode(inner)
    except UNREADABLE:
        return None
    keys = sum(map(len, parsed))  # nested ones are not among them
    return parsed if _colons(content) == attributes + keys else None


def surely_strict(content: bytes, *, depth_max: int = DEPTH_MAX) -> bool:
    """Whether any JSON text is free of duplicate keys, half surrogates and deep nesting.

    True is certain, for the reason :func:`surely_flat` gives, nested keys counted too.
    """
    try:
        value = _any.decode(content)
    except UNREADABLE:
        return False
    return _colons(content) == _keys(value, depth_max)


def strict_rows(texts: Sequence[str]) -> list[dict[str, Any]] | None:
    """Parse each of ``texts``; None unless all are objects and surely strict."""
    try:
        parsed = list(map(_object.decode, texts))
    except UNREADABLE:
        return None
    joined = ",".join(texts)
    flat = joined.count("[") <= _FLAT_ARRAYS_MAX
    if flat and _colons(joined.encode()) == sum(map(len, parsed)):
        return parsed
    strict = all(surely_strict(text.encode(), depth_max=DEPTH_MAX - 1) for text in texts)
    return parsed if strict else None


def _keys(value: object, depth_max: int) -> int:
    """How many keys stand in ``value``; hopelessly few if it is nested too deep."""
    if not isinstance(value, dict | list):
        return 0
    if depth_max == 0:
        return _TOO_DEEP
    inner = value.values() if isinstance(value, dict) else value
    found = len(value) if isinstance(value, dict) else 0
    for item in inner:
        if isinstance(item, dict | list):
            found += _keys(item, depth_max - 1)
    return found


def _colons(content: bytes) -> int:
    """How many ``":`` there are; -1 if a space stands before any colon."""
    if len(content) < _WORTH_AN_ARRAY_BYTES:
        spaced = b" :" in content or b"\n:" in content or b"\t:" in content or b"\r:" in content
        return -1 if spaced else content.count(b'":')
    array = np.frombuffer(content, np.uint8)
    before = array[np.flatnonzero(array == _COLON) - 1]
    return -1 if np.any(before <= _SPACE) else int(np.count_nonzero(before == _QUOTE))


def decoded_wires(wires: list[Wire], content: bytes, *, event_bytes_max: int) -> Decoded | None:
    """The events of a body msgspec could read, or None if one of them needs a closer look.

    Args:
        wires: all its events.
        content: the array they stand in.
    """
    versions = [wire.specversion for wire in wires]
    if not _BARE_VERSIONS.issuperset(versions):
        return None
    optional = (
        versions,
        [wire.time for wire in wires],
        [wire.datacontenttype for wire in wires],
        [wire.dataschema for wire in wires],
    )
    raws = [wire.data for wire in wires]
    absent = sum(column.count(UNSET) for column in optional) + raws.count(NO_DATA)
    attributes = (len(REQUIRED) + len(optional) + 1) * len(wires) - absent
    try:
        events = columns_of(wires, range(len(wires)))
    except UnicodeDecodeError:
        return None
    parsed = surely_flat(content, attributes=attributes, data=events.data)
    if parsed is None and _surely_plain(wires, content, event_bytes_max):
        parsed = strict_rows(events.data)
    if parsed is None:
        return None
    return Decoded(events=replace(events, parsed=parsed), rejected=[], received=len(wires))


def _surely_plain(wires: list[Wire], content: bytes, event_bytes_max: int) -> bool:
    """Whether nothing forbidden is among attributes that :class:`Wire` passes over."""
    if any(wire.data_base64 is not NOTHING for wire in wires):
        return False
    if not surely_strict(content, depth_max=DEPTH_MAX + 1):
        return False
    small = len(content) <= event_bytes_max
    return small or max(len(bytes(raw)) for raw in many_raws.decode(content)) <= event_bytes_max


def columns_of(wires: Sequence[Wire], index: Sequence[int]) -> Columns:
    """Events as columns.

    Raises:
        UnicodeDecodeError: some data is not UTF-8, which msgspec does not look at in a Raw.
    """
    times = [wire.time for wire in wires]
    raws = [wire.data for wire in wires]
    texts = _BETWEEN.join(raws).decode().split(_BETWEEN.decode()) if raws else []
    return Columns(
        index=index,
        source=[wire.source for wire in wires],
        id=[wire.id for wire in wires],
        type=[wire.type for wire in wires],
        subject=[wire.subject for wire in wires],
        time=[None if time is UNSET else time for time in times],
        data=texts,
    )
