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


def tokens_document(*, value: str = "data.n") -> dict[str, object]:
    """A business of one meter and one customer: ``acme`` has 1,000 tokens a month, at a cent each.

    ``value`` is where its events (``llm``) say how many.
    """
    price = {"product": "tokens", "charge": {"model": "per_unit", "unit_price": "0.01"}}
    return {
        "meters": {"tokens": {"event_type": "llm", "aggregation": "sum", "value": value}},
        "features": {"tokens": {"kind": "metered", "meter": "tokens"}},
        "products": {"tokens": {"name": "Tokens", "meter": "tokens"}},
        "pricebooks": {
            "b": {
                "currency": "USD",
                "invoicing": {"timing": "arrears", "every_months": 1},
                "prices": [price],
                "entitlements": [{"feature": "tokens", "amount": "1000", "every": "month"}],
            }
        },
        "customers": {"acme": {"name": "Acme", "subjects": ["acme"]}},
        "contracts": {"k": {"customer": "acme", "pricebook": "b", "start": "2026-01-01"}},
    }
