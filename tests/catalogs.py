"""Catalogs from documents, for tests that need one and no database."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from catalog.changes import plan
from catalog.clock import Micros
from catalog.grammar.objects import parse_document
from catalog.history import Statement, build_catalog
from catalog.snapshot import Catalog


def catalog_of(tree: object, *, timezone: str = "UTC") -> Catalog:
    """The catalog that applying ``tree`` to an empty one makes."""
    zone = ZoneInfo(timezone)
    stated = plan(Catalog(timezone=zone), parse_document(tree)).statements
    statements = [
        Statement(
            revision=number,
            kind=new.kind,
            id=new.id,
            recorded_at=Micros(number),
            retired=new.retired,
            whole_chain=new.whole_chain,
            versions=new.versions,
        )
        for number, new in enumerate(stated, start=1)
    ]
    return build_catalog(statements, timezone=zone)
