"""What is wrong with one event's JSON, said once and for every JSON form."""

from __future__ import annotations

import msgspec

from catalog.events import RejectCode
from ingest.decode.wire import REQUIRED, UNREADABLE
from ingest.jsontext import NotStrictJson, is_number, parse_strict

SPECVERSION = "1.0"

Reason = tuple[RejectCode, str]

_NOT_AN_OBJECT: Reason = (RejectCode.INVALID_FIELD, "data is not an object")


class _Named(msgspec.Struct, gc=False):
    id: str | None = None


_named = msgspec.json.Decoder(_Named)


def diagnose(element: bytes) -> Reason | None:
    """Why ``element`` is not an event, None if it is one (its values are not looked at)."""
    try:
        event = parse_strict(element.decode())
    except UnicodeDecodeError:
        return RejectCode.INVALID_JSON, "not UTF-8"
    except NotStrictJson as error:
        return RejectCode.INVALID_JSON, str(error)
    if not isinstance(event, dict):
        return RejectCode.INVALID_FIELD, "an event is an object"
    return _attributes(event) or _context(event) or _data(event)


def diagnose_data(text: str) -> Reason | None:
    """Why ``text`` is not the data of an event, None if it is (JSON null is no data)."""
    try:
        data = parse_strict(text, depth=2)
    except NotStrictJson as error:
        return RejectCode.INVALID_JSON, str(error)
    return None if data is None or isinstance(data, dict) else _NOT_AN_OBJECT


def id_of(element: bytes) -> str | None:
    """The id a refused event has, where it can be read."""
    try:
        return _named.decode(element).id
    except UNREADABLE:
        return None


def _attributes(event: dict[str, object]) -> Reason | None:
    for name in REQUIRED:
        value = event.get(name)
        if value is None:
            return RejectCode.MISSING_FIELD, f"{name} is missing"
        if not _is_text(value):
            return RejectCode.INVALID_FIELD, f"{name} is not a string"
    return None


def _context(event: dict[str, object]) -> Reason | None:
    version = event.get("specversion", SPECVERSION)
    if version is not None and (version != SPECVERSION or not _is_text(version)):
        return RejectCode.INVALID_FIELD, f'specversion is not "{SPECVERSION}"'
    if not _is_text(event.get("time") or ""):
        return RejectCode.INVALID_TIME, "time is not a string"
    for name in ("datacontenttype", "dataschema"):
        if not _is_text(event.get(name) or ""):
            return RejectCode.INVALID_FIELD, f"{name} is not a string"
    return None


def _data(event: dict[str, object]) -> Reason | None:
    if event.get("data_base64") is not None:
        return RejectCode.INVALID_FIELD, "data_base64 is not read: data is a JSON object"
    data = event.get("data")
    if data is not None and not isinstance(data, dict):
        return _NOT_AN_OBJECT
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not is_number(value)
