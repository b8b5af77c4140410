"""NDJSON: one event a line. A line that cannot be read is rejected, the others stand."""

from __future__ import annotations

import io

from ingest.batch import Decoded, IngestLimits, TooManyEvents
from ingest.decode.each import decode_each
from ingest.decode.wire import UNREADABLE, decoded_wires, one_wire


def decode_lines(content: bytes, limits: IngestLimits) -> Decoded:
    """Read every line that is not blank. ``index`` counts those lines, from 0.

    Raises:
        TooManyEvents: see there.
    """
    lines: list[bytes] = []
    for line in io.BytesIO(content):
        if line.isspace():
            continue
        if len(lines) == limits.events_max:
            raise TooManyEvents(f"more than {limits.events_max} events in one body")
        lines.append(line)
    try:
        wires = list(map(one_wire.decode, lines))
    except UNREADABLE:
        decoded = None
    else:
        whole = b"[" + b",".join(lines) + b"]"
        decoded = decoded_wires(wires, whole, event_bytes_max=limits.event_bytes_max)
    return decode_each([line.strip() for line in lines], limits) if decoded is None else decoded
