"""One CloudEvent in JSON, as msgspec finds it, and whether a text is strict JSON, cheaply.

msgspec checks the grammar to the last byte but keeps the last of duplicate keys. A full parser that
sees them costs ten times as much, so it only reads what :func:`surely_strict` or
:func:`surely_strict_flat` cannot clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from ingest.batch import Decoded, Texts
from ingest.jsontext import DEPTH_MAX

NO_DATA = Raw(b"{}")
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on bytes it does not accept."""

_COLON, _QUOTE, _SPACE, _BRACKET = 58, 34, 32, 91
_FLAT_ARRAYS_MAX = 16
_TOO_DEEP = -(2**40)


class Wire(msgspec.Struct, gc=False):
    """An event's attributes. Extension attributes are passed over."""

    id: str
    source: str
    type: str
    subject: str
    specversion: str | None | UnsetType = UNSET
    time: str | None | UnsetType = UNSET
    datacontenttype: str | None | UnsetType = UNSET
    dataschema: str | None | UnsetType = UNSET
    data: Raw = NO_DATA


_BARE_VERSIONS = frozenset({UNSET, None, "1.0"})
REQUIRED = ("id", "source", "type", "subject")
one_wire = msgspec.json.Decoder(Wire)
many_wires = msgspec.json.Decoder(list[Wire])
many_raws = msgspec.json.Decoder(list[Raw])
_any = msgspec.json.Decoder()
_objects = msgspec.json.Decoder(list[dict[str, Any]])


def surely_strict_flat(content: bytes, *, attributes: int, data: Sequence[Raw | bytes]) -> bool:
    """Whether a body that :class:`Wire` could read is free of duplicate keys and of deep nesting.

    True is certain; false means look closer. Every key is followed by ``":``, and nothing else is
    unless a string holds those characters. So if nowhere a space precedes a colon, there are at
    least as many ``":`` as keys were sent, and as many as keys were *found* only if no key stands
    twice, none is unknown and no string confuses the count.

    Args:
        content: the body.
        attributes: how many attributes Wire found in all its events, ``data`` included.
        data: the data of each event, as found.
    """
    joined = b"[" + b",".join(data) + b"]"
    inner = np.frombuffer(joined, np.uint8)
    if np.count_nonzero(inner == _BRACKET) > _FLAT_ARRAYS_MAX:
        return False
    try:
        keys = sum(map(len, _objects.decode(joined)))  # flat: nested keys are not counted
    except UNREADABLE:
        return False
    return _colons(np.frombuffer(content, np.uint8)) == attributes + keys


def surely_strict(content: bytes) -> bool:
    """Whether any JSON text is free of duplicate keys, half surrogates and deep nesting.

    True is certain, for the reason :func:`surely_strict_flat` gives, nested keys counted too. An
    array is a body: its elements are what may nest 32 deep.
    """
    try:
        value = _any.decode(content)
    except UNREADABLE:
        return False
    keys = _keys(value, DEPTH_MAX + 1 if isinstance(value, list) else DEPTH_MAX)
    return _colons(np.frombuffer(content, np.uint8)) == keys


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


def _colons(content: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """How many ``":`` there are; -1 if a space stands before any colon."""
    before = content[np.flatnonzero(content == _COLON) - 1]
    return -1 if np.any(before <= _SPACE) else int(np.count_nonzero(before == _QUOTE))


def decoded_wires(wires: list[Wire], content: bytes) -> Decoded | None:
    """The events of a body msgspec could read, or None if one of them needs a closer look.

    Args:
        wires: all its events.
        content: the array they stand in.
    """
    versions = [wire.specversion for wire in wires]
    if not _BARE_VERSIONS.issuperset(versions):
        return None
    texts = texts_of(wires, range(len(wires)))
    present = [
        len(wires) - column.count(absent)
        for column, absent in (
            (versions, UNSET),
            ([wire.time for wire in wires], UNSET),
            ([wire.datacontenttype for wire in wires], UNSET),
            ([wire.dataschema for wire in wires], UNSET),
            (texts.data, NO_DATA),
        )
    ]
    attributes = len(REQUIRED) * len(wires) + sum(present)
    strict = surely_strict_flat(content, attributes=attributes, data=texts.data) or (
        surely_strict(content) and _are_objects(texts.data)
    )
    return Decoded(events=texts, rejected=[], received=len(wires)) if strict else None


def texts_of(wires: Sequence[Wire], index: Sequence[int]) -> Texts:
    """Events as columns."""
    times = [wire.time for wire in wires]
    return Texts(
        index=index,
        source=[wire.source for wire in wires],
        id=[wire.id for wire in wires],
        type=[wire.type for wire in wires],
        subject=[wire.subject for wire in wires],
        time=[None if time is UNSET else time for time in times],
        data=[wire.data for wire in wires],
    )


def _are_objects(data: Sequence[Raw | bytes]) -> bool:
    try:
        _objects.decode(b"[" + b",".join(data) + b"]")
    except UNREADABLE:
        return False
    return True
