"""JSON bodies read strictly: what a lenient parser would lose or invent is refused.

A repeated key is an error (parsers keep the last one, so the first would vanish), and a number
with a fraction stays marked: it is handed on as ``float`` only for the reader of the field to
refuse it; no such value is ever computed with.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.requests import Request

from catalog.errors import DomainError, FieldError
from ingest.batch import EmptyBody, UnsupportedMediaType

DEPTH_MAX = 64


class InvalidBody(DomainError):
    """The body is not JSON, or JSON that two readers would read differently."""

    code = "invalid_body"


async def read_json(request: Request) -> object:
    """The request's body as JSON values. A FastAPI dependency.

    Raises:
        UnsupportedMediaType: it says it is something else.
        EmptyBody: there is none.
        InvalidBody: it is not one well-formed JSON text without repeated keys.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"", "application/json"}:
        raise UnsupportedMediaType(f"this is read from application/json, not {kind}")
    content = await request.body()
    if not content.strip():
        raise EmptyBody("the body is empty")
    return parse_json(content)


def parse_json(content: bytes) -> object:
    """``content`` as JSON values: dict, list, str, int, float, bool, None.

    Raises:
        InvalidBody: not UTF-8, not JSON, a repeated key, NaN or Infinity, half a surrogate pair,
            nested deeper than :data:`DEPTH_MAX`.
    """
    try:
        tree = json.loads(content, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidBody("the body is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise InvalidBody(f"the body is not JSON: {error}") from error
    _check_texts(tree, depth=0)
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        error = FieldError(pointer="", detail=f"the key {repeated!r} is there twice")
        raise InvalidBody(f"the key {repeated!r} is there twice in one object", errors=[error])
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidBody(f"{name} is not JSON")


def _check_texts(value: object, *, depth: int) -> None:
    """Refuse what cannot be stored or sent again as UTF-8, and what is nested without end."""
    if depth > DEPTH_MAX:
        raise InvalidBody(f"the body is nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check_texts(member, depth=depth + 1)
    elif isinstance(value, list):
        for member in value:
            _check_texts(member, depth=depth + 1)
    elif isinstance(value, str):
        _check_text(value)


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidBody("a text holds half a surrogate pair")
