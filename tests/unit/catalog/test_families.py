"""Who is billed together: a customer and all below it."""

from __future__ import annotations

from catalog.families import family_of
from catalog.ids import CustomerId
from tests.unit.rating.builders import catalog_of

CATALOG = catalog_of("""
customers:
  holding: {name: Holding, subjects: []}
  north: {name: North, subjects: [], parent: holding}
  south: {name: South, subjects: [], parent: holding}
  branch: {name: Branch, subjects: [], parent: north}
  other: {name: Other, subjects: []}
""")


def test_a_family_is_everyone_below_and_nobody_beside_or_above():
    """Children of children too; a child alone is itself and what is below it."""
    assert family_of(CATALOG, CustomerId("holding")) == ["branch", "holding", "north", "south"]
    assert family_of(CATALOG, CustomerId("north")) == ["branch", "north"]
    assert family_of(CATALOG, CustomerId("other")) == ["other"]
