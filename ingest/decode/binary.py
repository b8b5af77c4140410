"""CloudEvents' binary mode over HTTP: attributes in ``ce-`` headers, the data as the body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import msgspec

from ingest.batch import Decoded, IngestLimits, UnreadableBody, UnsupportedMediaType
from ingest.decode.arrays import split_array
from ingest.decode.each import decode_each

_BODY_MEDIA = re.compile(
    r"application/(cloudevents.*|x-ndjson|vnd\.apache\.(arrow\.stream|parquet))"
)
_JSON_MEDIA = re.compile(r"(application|text)/(json|[a-z0-9.+-]+\+json)")
_MARKS = ("ce-id", "ce-specversion")
_ATTRIBUTES = ("id", "source", "type", "subject", "specversion", "time", "dataschema")


def is_binary(media: str, headers: Mapping[str, str]) -> bool:
    """Whether a request is one event in binary mode.

    ``application/json`` is then the type of the *data*, as CloudEvents has it: the ``ce-`` headers
    decide. Content types that only ever hold whole events are never binary mode.
    """
    return any(mark in headers for mark in _MARKS) and not _BODY_MEDIA.fullmatch(media)


def decode_binary(
    content: bytes, media: str, *, headers: Mapping[str, str], limits: IngestLimits
) -> Decoded:
    """Read one event: it is written in its JSON form and read like any other.

    An empty body is an event without data.

    Raises:
        UnsupportedMediaType, UnreadableBody: the data is not JSON.
    """
    if media and not _JSON_MEDIA.fullmatch(media):
        raise UnsupportedMediaType(f"data is a JSON object, not {media}")
    event: dict[str, object] = {}
    for name in _ATTRIBUTES:
        value = headers.get(f"ce-{name}")
        if value is not None:
            event[name] = _decoded(value)
    element = msgspec.json.encode(event)
    if content.strip():
        data = split_array(b"[" + content + b"]", limits)  # so that no body can pose as attributes
        if len(data) != 1:
            raise UnreadableBody("the data is more than one JSON value")
        element = b"".join((element[:-1], b',"data":' if event else b'"data":', *data, b"}"))
    return decode_each([element], limits)


def _decoded(value: str) -> str:
    """A header's text: unquoted, then percent-decoded. What is no UTF-8 keeps its percent signs."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value.encode("latin-1", "replace")).decode()
    except UnicodeDecodeError:
        return value
