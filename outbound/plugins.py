"""Adapters found by being there: each module of a package names one, in one constant."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def found_in(package: ModuleType, constant: str, kind: type[T]) -> dict[str, T]:
    """Each module's ``constant`` by its ``name``; modules without it only help the others."""
    found: dict[str, T] = {}
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"{package.__name__}.{module.name}")
        adapter = getattr(loaded, constant, None)
        if isinstance(adapter, kind):
            found[adapter.name] = adapter  # type: ignore[attr-defined]
    return dict(sorted(found.items()))
