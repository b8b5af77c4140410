"""What OpenAPI is told of a destination's declaration (``outbound.grammar`` reads it)."""

from __future__ import annotations

from typing import Any

from outbound.adapters import DOCUMENTS, FORMATS
from outbound.destinations import Every, Start, Transport

_CHOICE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "in": {"type": "array", "items": {"type": "string"}},
        "not_in": {"type": "array", "items": {"type": "string"}},
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}
_FILTERS = ("products", "entities", "currencies", "kinds", "customers")

DESTINATION: dict[str, Any] = {
    "type": "object",
    "required": ["kind", "format"],
    "additionalProperties": False,
    "properties": {
        "kind": {"type": "string", "enum": [kind.value for kind in Transport]},
        "document": {"type": ["string", "null"], "enum": [*DOCUMENTS, None]},
        "format": {"type": "string", "enum": list(FORMATS)},
        "filter": {
            "type": ["object", "null"],
            "properties": dict.fromkeys(_FILTERS, _CHOICE),
            "additionalProperties": False,
        },
        "columns": {"type": ["array", "null"], "items": {}},
        "options": {"type": ["object", "null"]},
        "schedule": {
            "type": ["object", "null"],
            "properties": {
                "every": {"type": "string", "enum": [every.value for every in Every]},
                "every_minutes": {"type": "integer", "minimum": 1},
            },
        },
        "batch": {"type": ["integer", "null"], "minimum": 1},
        "start": {"type": ["string", "null"], "enum": [*(start.value for start in Start), None]},
        "folder": {"type": ["string", "null"]},
        "url": {"type": ["string", "null"]},
        "secrets": {"type": ["array", "null"], "items": {"type": "string"}},
    },
    "example": {"kind": "files", "folder": "ledger", "document": "lines", "format": "csv"},
}

NEW_DESTINATION: dict[str, Any] = {
    **DESTINATION,
    "required": ["id", *DESTINATION["required"]],
    "properties": {"id": {"type": "string"}, **DESTINATION["properties"]},
    "example": {"id": "ledger", **DESTINATION["example"]},
}
