"""Lays ``operations.yaml`` over the generated OpenAPI document, and adds what all have in common.

The YAML is read once, when the document is first asked for. That it names every operation, and that
every example succeeds, is a test.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from api.hot.documentation import SECURITY_SCHEMES
from api.problems import PROBLEMS

OPERATIONS = Path(__file__).with_name("operations.yaml")
JSON = "application/json"
_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"get", "put", "post", "delete"})

_PLURAL = {
    "meters": "what is counted: an event type, an aggregation, dimensions",
    "features": "what is gated: metered, boolean or static",
    "products": "what is sold; a metered one names its meter",
    "pricebooks": "list prices and allowances, in one currency",
    "customers": "who pays, and the subjects whose usage is theirs",
    "contracts": "a customer's terms over a period",
    "taxes": "the rates of a tax, by time and tax code",
}
_CATALOG = {
    "list": "{Kind}: {what}. The last version of each, by id; retired ones are left out.",
    "get": "The last version, with when it was stated and by which revision.",
    "put": (
        "{Kind}: {what}. Without `effective_from` it states what holds from the beginning, a "
        "correction: open lines are rated again, closed ones get adjustments. With it, what holds "
        "from then on. 201 when it is new."
    ),
    "retire": "It ends now and its versions stay. 409 `in_use` names what still needs it.",
    "versions": "The whole chain; `as_of` shows it as it was recorded then.",
}
_CATALOG_CODES = {
    "put": ("invalid_document", "inconsistent_catalog", "unsupported_terms", "revision_changed"),
    "delete": ("in_use", "revision_changed"),
}

SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457. `code` is stable; docs/problems.md has a section for each.",
        "required": ["type", "title", "status", "code", "detail", "instance"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "detail": {"type": "string"},
            "instance": {"type": "string", "description": "The request's id, as in the logs."},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                },
            },
        },
    },
    "Event": {
        "type": "object",
        "description": "A CloudEvent 1.0. Its identity is `source` and `id`.",
        "required": ["specversion", "id", "source", "type", "subject"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": 256},
            "source": {"type": "string", "minLength": 1, "maxLength": 256},
            "type": {"type": "string", "minLength": 1, "maxLength": 256},
            "subject": {"type": "string", "minLength": 1, "maxLength": 256},
            "time": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": "With its offset; default: when it is received.",
            },
            "data": {"type": ["object", "null"], "description": "What meters read."},
        },
    },
    "Items": {
        "type": "array",
        "minItems": 1,
        "maxItems": 100,
        "items": {
            "type": "object",
            "required": ["feature"],
            "additionalProperties": False,
            "properties": {
                "feature": {"type": "string"},
                "amount": {
                    "description": "A decimal as text, or an integer.",
                    "oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}],
                },
                "dimensions": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
    },
}


@cache
def operations() -> dict[str, dict[str, Any]]:
    """What is said of each operation, by ``METHOD path``."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(OPERATIONS.read_text())
    return {name: said or {} for name, said in found.items()}


def lay_over(document: dict[str, Any]) -> None:
    """Complete ``document`` in place."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(SCHEMAS)
    components["securitySchemes"] = SECURITY_SCHEMES
    document["security"] = [{"key": []}]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                _complete(operation, method, path)


def _complete(operation: dict[str, Any], method: str, path: str) -> None:
    said = operations().get(f"{method.upper()} {path}", {})
    operation["summary"] = said.get("summary", operation.get("summary", ""))
    operation["description"] = (
        said.get("description")
        or _of_catalog(method, path)
        or operation.get("description")
        or f"{operation['summary']}."
    )
    _give_examples(operation, said)
    _name_media(operation, said)
    _name_problems(operation, said, method=method, path=path)


def _of_catalog(method: str, path: str) -> str:
    """The text that all kinds of the catalog share."""
    parts = path.split("/")[2:]
    if parts[0] not in _PLURAL or parts[1:] not in ([], ["{id}"], ["{id}", "versions"]):
        return ""
    if method == "get":
        text = ("list", "get", "versions")[len(parts) - 1]
    else:
        text = "put" if method == "put" else "retire"
    return _CATALOG[text].format(Kind=parts[0].capitalize(), what=_PLURAL[parts[0]])


def _give_examples(operation: dict[str, Any], said: dict[str, Any]) -> None:
    values = {("path", name): value for name, value in said.get("path", {}).items()}
    values |= {("query", name): value for name, value in said.get("query", {}).items()}
    for parameter in operation.get("parameters", ()):
        example = values.get((parameter["in"], parameter["name"]))
        if example is not None:
            listed = parameter.get("schema", {}).get("type") == "array"
            parameter["example"] = [example] if listed else example
    content = operation.get("requestBody", {}).get("content", {}).get(JSON)
    if content is not None:
        if "schema" in said:
            content["schema"] = said["schema"]
        content["schema"].pop("example", None)
        content["example"] = said.get("body", {})


def _name_media(operation: dict[str, Any], said: dict[str, Any]) -> None:
    """The forms an answer comes in beside JSON, or instead of it."""
    media = said.get("media", ())
    if media:
        content = operation["responses"]["200"].setdefault("content", {})
        content.update({kind: {"schema": {"type": "string"}} for kind in media})


def _name_problems(
    operation: dict[str, Any], said: dict[str, Any], *, method: str, path: str
) -> None:
    """Every status an operation may refuse with, and the codes it does so with."""
    codes = ["unavailable"]
    if path not in _OPEN:
        codes += ["unauthenticated", "forbidden", "invalid_request", "unknown_parameter"]
        codes += ["headers_too_large", "worker_unavailable", "overloaded"]
    if "{" in path:
        codes.append("not_found")
    if path.split("/")[2:3] and path.split("/")[2] in _PLURAL and method in _CATALOG_CODES:
        codes += _CATALOG_CODES[method]
    if "requestBody" in operation:
        codes += ["invalid_body", "empty_body", "body_too_large", "unsupported_media_type"]
        codes.append("request_timeout")
    codes += said.get("problems", ())
    responses = operation["responses"]
    for made in [status for status in responses if status[0] in "45"]:
        del responses[made]
    for status in sorted({PROBLEMS[code][0] for code in codes}):
        mine = dict.fromkeys(code for code in codes if PROBLEMS[code][0] == status)
        told = "; ".join(f"`{code}`: {PROBLEMS[code][1]}" for code in mine)
        schema = {"$ref": "#/components/schemas/Problem"}
        content = {"application/problem+json": {"schema": schema}}
        if path == "/readyz":
            content = {JSON: {"schema": {}}}
        responses[str(status)] = {"description": told, "content": content}
