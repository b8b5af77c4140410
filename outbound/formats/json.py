"""JSON: one object with the rows in it, as a webhook's body."""

from __future__ import annotations

import orjson

from outbound.formats.base import Format, Table
from outbound.formats.ndjson import objects

HEAD = ("type", "timestamp")


def render(table: Table) -> bytes:
    """``{type, timestamp, data: {export, run, after, upto, rows: […]}}``."""
    head = {name: table.envelope[name] for name in HEAD}
    data = {name: value for name, value in table.envelope.items() if name not in HEAD}
    return orjson.dumps({**head, "data": {**data, "rows": objects(table)}})


FORMAT = Format(name="json", suffix="json", media_type="application/json", render=render)
