"""Customers and those below them: who is billed together."""

from __future__ import annotations

from catalog.ids import CustomerId
from catalog.snapshot import Catalog


def family_of(catalog: Catalog, customer: CustomerId) -> list[CustomerId]:
    """``customer`` and every customer below it, as their last versions name their parents."""
    children: dict[CustomerId, list[CustomerId]] = {}
    for name, chain in catalog.customers.items():
        parent = chain.last.parent if chain.versions else None
        if parent is not None:
            children.setdefault(parent, []).append(name)
    found = [customer]
    for name in found:  # grows while it is walked; apply refuses cycles, and so does this
        found.extend(child for child in children.get(name, []) if child not in found)
    return sorted(found)
