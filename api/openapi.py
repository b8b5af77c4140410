"""What the OpenAPI document is told of bodies that routes read strictly by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

COMPONENTS = "#/components/schemas/{model}"


def request_body(schema: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
    """``openapi_extra`` of an operation whose body follows ``schema``.

    Bodies are read by hand where decimals and repeated keys matter, so FastAPI sees no model.
    """
    if isinstance(schema, type):
        schema = schema.model_json_schema(ref_template=COMPONENTS)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def hoist_definitions(document: dict[str, Any]) -> None:
    """Move the definitions of bodies to ``components``: a reference in OpenAPI begins there."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for item in document["paths"].values():
        for operation in item.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schemas.update(content.get("schema", {}).pop("$defs", {}))
