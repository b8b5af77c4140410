"""Writes docs/settings.md from api/settings.py (``python -m tests.docs.settings_page``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from api.settings import KIB, NESTED, PREFIX, Settings

INTRODUCTION = """\
# Settings

Environment variables, read once when the service starts. A value out of its bounds ends the start
with a sentence and exit code 78. The commands that ask a service read two of their own:
`TALLYMAN_URL` (default `http://127.0.0.1:8080`) and `TALLYMAN_KEY`.

This page is written by `python -m tests.docs.settings_page > docs/settings.md`; a test compares.

"""
HEAD = "| setting | default | bounds | |\n|---|---|---|---|\n"
BAR = r"\|"  # inside a cell
UNITS = ((KIB**3, "GiB"), (KIB**2, "MiB"), (KIB, "KiB"))


def settings_page() -> str:
    """The whole page."""
    return INTRODUCTION + HEAD + "".join(_rows(Settings, PREFIX))


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(field.annotation, f"{variable}{NESTED}")
            continue
        assert field.description, f"{variable} says nothing"
        default = _default(name, field)
        cells = (f"`{variable}`", default, _bounds(name, field), field.description)
        yield f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |\n"


def _default(name: str, field: FieldInfo) -> str:
    assert field.default is not PydanticUndefined, name
    if field.default is None or field.default == "":
        return ""
    text = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    readable = _value(name, field.default)
    return f"`{text}`" if "iB" not in readable else f"`{text}` ({readable})"


def _bounds(name: str, field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    low, high, unit = "", "", ""
    for limit in _limits(field):
        match limit:
            case Ge(ge=least):
                low = _value(name, least)
            case Gt(gt=below):
                low = f"over {_value(name, below)}"
            case Le(le=most):
                high = _value(name, most)
            case MinLen(min_length=least):
                low, unit = str(least), " characters"
            case MaxLen(max_length=most):
                high = str(most)
            case _ if (pattern := getattr(limit, "pattern", None)) is not None:
                return f"`{pattern}`"
    return f"{low} to {high}{unit}" if high else ""


def _limits(field: FieldInfo) -> list[Any]:
    """The field's own limits, and those of the type inside ``… | None``."""
    found = list(field.metadata)
    for part in get_args(field.annotation):
        for more in getattr(part, "__metadata__", ()):
            found += more.metadata if isinstance(more, FieldInfo) else [more]
    return found


def _value(name: str, value: object) -> str:
    if name.endswith("_bytes_max") and isinstance(value, int):
        for size, unit in UNITS:
            if value >= size and value % size == 0:
                return f"{value // size} {unit}"
    return str(value)


if __name__ == "__main__":
    print(settings_page(), end="")
