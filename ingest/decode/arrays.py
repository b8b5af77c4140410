"""JSON bodies: one event, or an array of them. The common case is one pass of msgspec."""

from __future__ import annotations

from msgspec import Raw

from ingest.batch import Decoded, IngestLimits, TooManyEvents, UnreadableBody
from ingest.decode.each import decode_each
from ingest.decode.wire import UNREADABLE, Wire, decoded_wires, many_raws, many_wires
from ingest.jsontext import NotStrictJson, scan_strict

_EVENT_BYTES_MIN = len('{"id":"i","source":"s","type":"t","subject":"s"}')
_COMMAS_MAX = 1_000_000
"""Bounds how many elements msgspec may be asked to find at once, at about 60 bytes each."""

_SPACE = " \t\r\n"


def decode_one(content: bytes, limits: IngestLimits) -> Decoded:
    """Read a body that is one event.

    Raises:
        UnreadableBody: it is not one JSON object.
    """
    element = content.strip(_SPACE.encode())
    if element[:1] != b"{":
        raise UnreadableBody("the body is neither an event nor an array of events")
    elements = split_array(b"[" + element + b"]", limits)
    if len(elements) != 1:
        raise UnreadableBody("the body is more than one JSON value")
    return decode_each(elements, limits)


def decode_array(content: bytes, limits: IngestLimits) -> Decoded:
    """Read a body that is an array of events.

    Raises:
        UnreadableBody: it cannot be taken apart into elements.
        TooManyEvents: see there.
    """
    wires = _wires(content, limits)
    if wires is not None and len(wires) > limits.events_max:
        raise TooManyEvents(f"more than {limits.events_max} events in one body")
    decoded = (
        None
        if wires is None
        else decoded_wires(wires, content, event_bytes_max=limits.event_bytes_max)
    )
    return decode_each(split_array(content, limits), limits) if decoded is None else decoded


def _wires(content: bytes, limits: IngestLimits) -> list[Wire] | None:
    """Every element as an event, or None if one of them is none (or they might be too many)."""
    crowded = len(content) > limits.events_max * _EVENT_BYTES_MIN
    if crowded and content.count(b"{") > limits.events_max:
        return None
    try:
        return many_wires.decode(content)
    except UNREADABLE:
        return None


def split_array(content: bytes, limits: IngestLimits) -> list[bytes | Raw]:
    """Take an array apart into the texts of its elements, whatever they are.

    Raises:
        UnreadableBody: it is not an array of JSON values.
        TooManyEvents: see there.
    """
    elements: list[bytes | Raw] = []
    if content.count(b",") <= _COMMAS_MAX:
        try:
            elements.extend(many_raws.decode(content))
        except UNREADABLE:  # a lone surrogate is enough; the slow way finds which element has it
            elements = _scan_array(content, limits)
    else:
        elements = _scan_array(content, limits)
    if len(elements) > limits.events_max:
        raise TooManyEvents(f"more than {limits.events_max} events in one body")
    return elements


def _scan_array(content: bytes, limits: IngestLimits) -> list[bytes | Raw]:
    try:
        text = content.decode().strip(_SPACE)
        return list(_elements(text, limits.events_max + 1))
    except (UnicodeDecodeError, NotStrictJson, IndexError) as error:
        raise UnreadableBody(f"the body is not a JSON array: {error}") from None


def _elements(text: str, count_max: int) -> list[bytes]:
    """The elements of ``text``, an array without space around it, up to ``count_max``."""
    found: list[bytes] = []
    place = _skip(text, 1)
    if text[place] == "]":
        return _nothing_after(found, text, place)
    while len(found) < count_max:
        end = scan_strict(text, place)
        found.append(text[place:end].encode())
        place = _skip(text, end)
        if text[place] == "]":
            return _nothing_after(found, text, place)
        if text[place] != ",":
            raise NotStrictJson(f"expected a comma at character {place}")
        place = _skip(text, place + 1)
    return found


def _nothing_after(found: list[bytes], text: str, place: int) -> list[bytes]:
    if place + 1 != len(text):
        raise NotStrictJson(f"text after the array at character {place + 1}")
    return found


def _skip(text: str, place: int) -> int:
    while text[place] in _SPACE:
        place += 1
    return place
