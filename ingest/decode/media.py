"""Which decoder reads a body: by content type, and by ``ce-`` headers for binary mode."""

from __future__ import annotations

from dataclasses import replace

from ingest.batch import (
    Body,
    Decoded,
    EmptyBody,
    IngestLimits,
    UnreadableBody,
    UnsupportedMediaType,
)
from ingest.decode import arrays, binary, columnar, lines

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"

ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


def decode(body: Body, limits: IngestLimits = IngestLimits()) -> Decoded:  # noqa: B008 - frozen
    """Read every event of a body.

    An event that cannot be read is rejected by its index; the others stand.

    Raises:
        EmptyBody, UnreadableBody, UnsupportedMediaType, TooManyEvents: nothing of it stands.
    """
    media, parameters = _media_of(body.content_type)
    if binary.is_binary(media, body.headers):
        decoded = binary.decode_binary(body.content, media, headers=body.headers, limits=limits)
    elif media in {ONE, BATCH, JSON, NDJSON}:
        if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
            raise UnsupportedMediaType("JSON bodies are UTF-8")
        decoded = _decode_json(_text(body.content), media, limits)
    elif media in {ARROW, PARQUET}:
        _text(body.content)
        read = columnar.decode_arrow if media == ARROW else columnar.decode_parquet
        decoded = read(body.content, limits)
    else:
        raise UnsupportedMediaType(f"events are not read from {media or 'a body without a type'}")
    return replace(decoded, size_bytes=len(body.content))


def _decode_json(content: bytes, media: str, limits: IngestLimits) -> Decoded:
    if media == NDJSON:
        return lines.decode_lines(content, limits)
    many = content.lstrip(_SPACE)[:1] == b"["
    if many and media == ONE:
        raise UnreadableBody(f"{ONE} is one event, not an array")
    if not many and media == BATCH:
        raise UnreadableBody(f"{BATCH} is an array of events")
    return arrays.decode_array(content, limits) if many else arrays.decode_one(content, limits)


def _text(content: bytes) -> bytes:
    content = content.removeprefix(_BOM)
    if not content or not content.strip(_SPACE):
        raise EmptyBody("the body is empty")
    return content


def _media_of(content_type: str) -> tuple[str, dict[str, str]]:
    """Split a Content-Type into its media type and its parameters, all names in lower case."""
    media, *rest = content_type.split(";")
    pairs = (part.partition("=") for part in rest)
    parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    return media.strip().lower(), parameters
