"""The catalog's written form (YAML or JSON trees), read into values and written back."""

from catalog.grammar.nodes import InvalidDocument, step
from catalog.grammar.objects import (
    Document,
    Stated,
    StatedObject,
    Value,
    parse_document,
    parse_object,
    parse_value,
    render,
    render_version,
)

__all__ = [
    "Document",
    "InvalidDocument",
    "Stated",
    "StatedObject",
    "Value",
    "parse_document",
    "parse_object",
    "parse_value",
    "render",
    "render_version",
    "step",
]
