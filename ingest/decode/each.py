"""Events read one by one: the way for bodies in which something is odd."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Raw

from catalog.events import RejectCode
from ingest.batch import Decoded, IngestLimits, Rejection
from ingest.decode.diagnose import SPECVERSION, Reason, diagnose, id_of
from ingest.decode.wire import (
    NO_DATA,
    NOTHING,
    UNREADABLE,
    Wire,
    columns_of,
    one_wire,
    surely_strict,
)

_USUAL_VERSIONS = (UNSET, SPECVERSION)


def decode_each(elements: Sequence[bytes | Raw], limits: IngestLimits) -> Decoded:
    """Read each element as an event, or reject it by its index."""
    wires: list[Wire] = []
    index: list[int] = []
    rejected: list[Rejection] = []
    for place, element in enumerate(elements):
        text = bytes(element)
        found = read_event(text, limits)
        if isinstance(found, Wire):
            wires.append(found)
            index.append(place)
        else:
            code, detail = found
            rejected.append(Rejection(index=place, id=id_of(text), code=code, detail=detail))
    return Decoded(events=columns_of(wires, index), rejected=rejected, received=len(elements))


def read_event(text: bytes, limits: IngestLimits) -> Wire | Reason:
    """One event, or why it is none."""
    if len(text) > limits.event_bytes_max:
        return RejectCode.TOO_LARGE, f"the event is larger than {limits.event_bytes_max} bytes"
    try:
        wire = one_wire.decode(text)
    except UNREADABLE as error:
        return diagnose(text) or (RejectCode.INVALID_JSON, str(error))
    data = bytes(wire.data)
    usual = data[:1] == b"{" and wire.specversion in _USUAL_VERSIONS
    if not usual or wire.data_base64 is not NOTHING or not surely_strict(text):
        reason = diagnose(text)
        if reason is not None:
            return reason
        wire.data = NO_DATA if data == b"null" else wire.data
    return wire
