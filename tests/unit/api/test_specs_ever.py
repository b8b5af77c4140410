"""Every fact spec there ever was: meters and dynamic prices, whatever was stated since."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from api.specs import SpecsEver
from catalog.changes import plan
from catalog.clock import Micros
from catalog.grammar import parse_document
from catalog.history import Kind, Statement, build_catalog
from catalog.snapshot import Catalog
from catalog.specs import fact_specs
from tests.unit.catalog.test_fact_specs import TREE


class Stated:
    """A history of statements in memory."""

    def __init__(self) -> None:
        self.held: list[Statement] = []

    def state(self, tree: Mapping[str, object]) -> None:
        """Apply a document."""
        for new in plan(self.catalog(), parse_document(tree)).statements:
            number = len(self.held) + 1
            self.held.append(
                Statement(
                    revision=number,
                    kind=new.kind,
                    id=new.id,
                    recorded_at=Micros(number),
                    retired=new.retired,
                    whole_chain=new.whole_chain,
                    versions=new.versions,
                )
            )

    def catalog(self) -> Catalog:
        """All of it."""
        return build_catalog(self.held, timezone=Catalog().timezone)

    def revision(self) -> int:
        """The number of the last statement."""
        return len(self.held)

    def every(self, kind: Kind, *, after: int) -> tuple[Statement, ...]:
        """The statements of a kind since ``after``."""
        return tuple(s for s in self.held if s.kind == kind and s.revision > after)


def test_every_spec_of_the_catalog_and_of_those_before_it_is_there():
    """A price that names another amount adds to what is read; the old one stays readable."""
    history = Stated()
    history.state(TREE)
    specs = SpecsEver(history)
    first = fact_specs(history.catalog())
    assert specs() == first
    assert specs() is specs()
    changed = deepcopy(TREE)
    changed["contracts"]["k"]["prices"] = []
    changed["pricebooks"]["b"]["prices"][0]["charge"]["amount"] = "data.other"
    changed["meters"]["m"]["dimensions"] = {}
    history.state(changed)
    second = fact_specs(history.catalog())
    assert set(second) - set(first)
    assert set(specs()) >= set(first) | set(second)
