"""Reading a request line and headers, where what they say is beyond doubt.

Stricter than HTTP: whatever could be read in two ways, and whatever changes how a request is
framed, is not read here at all. What is read is what the parser of the ASGI way reads too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import Scope

from api import auth
from api.hot.dispatch import REQUEST_ID, Hot, Routes
from catalog.keys import Scope as KeyScope

_LINE = re.compile(rb"([A-Z]+) (/[A-Za-z0-9._~:/-]{0,1024}) HTTP/1\.1")
_HEAD = re.compile(rb"(?:\r\n[A-Za-z-]+: ?[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)+")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,8}")
_TOLD_APART = frozenset({b"x-request-id", b"traceparent", b"tracestate", b"baggage"})
"""Headers that are another every time: a head with one is not kept."""
_PLAIN = _TOLD_APART | {
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"authorization",
    b"connection",
    b"content-length",
    b"content-type",
    b"forwarded",
    b"host",
    b"user-agent",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
}
"""Headers that change nothing about how a request is framed, or that are read here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A request line: the route, its path parameters, and the scopes of which one is needed."""

    hot: Hot
    parameters: dict[str, str]
    scopes: frozenset[KeyScope]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The headers of a request by lower-case name, and what they say."""

    headers: dict[str, str]
    content_length: int
    key: str
    request_id: bytes | None
    kept: bool


def read_line(text: bytes, routes: Routes) -> Line | None:
    """A request line, without its end; None where it is not for this way."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    method, path = match[1].decode(), match[2].decode()
    scope: Scope = {"path": path, "raw_path": match[2]}
    hot = routes.find(method, scope)
    if hot is None or hot.open or hot.method != method or not hasattr(hot.handler, "take"):
        return None
    scopes = auth.scopes_for(method, path)
    return Line(hot=hot, parameters=scope.get("path_params", {}), scopes=scopes)


def read_head(text: bytes) -> Head | None:
    """Headers, each behind a line end; None where they are not for this way."""
    if _HEAD.fullmatch(text) is None:
        return None
    lines = text.split(b"\r\n")[1:]
    split = (line.partition(b":") for line in lines)
    pairs = [(name.lower(), value.strip(b" ")) for name, _, value in split]
    found = dict(pairs)
    length = found.get(b"content-length", b"")
    if len(found) < len(pairs) or not _PLAIN.issuperset(found) or not _LENGTH.fullmatch(length):
        return None
    request_id = found.get(b"x-request-id", b"")
    if found.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    try:
        key = auth.bearer_key(found.items())
    except auth.Unauthenticated:
        return None
    return Head(
        headers={name.decode(): value.decode() for name, value in pairs},
        content_length=int(length),
        key=key,
        request_id=request_id if REQUEST_ID.fullmatch(request_id) else None,
        kept=_TOLD_APART.isdisjoint(found),
    )
