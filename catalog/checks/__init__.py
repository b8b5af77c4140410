"""Whether the objects of a catalog fit each other. Each object alone was read by the grammar."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from catalog.checks.contracts import check_contracts
from catalog.checks.findings import Findings, is_live
from catalog.checks.overlaps import double_pricing
from catalog.checks.prices import check_prices, check_products
from catalog.checks.references import check_parents, check_references
from catalog.checks.subjects import check_subjects
from catalog.clock import Micros
from catalog.errors import FieldError
from catalog.ids import Kind
from catalog.snapshot import Catalog

__all__ = ["check_catalog", "double_pricing", "is_live"]


def check_catalog(
    catalog: Catalog,
    *,
    now: Micros,
    pointers: Mapping[int, str] | None = None,
    only: Collection[tuple[Kind, str]] | None = None,
) -> list[FieldError]:
    """Every mistake between objects.

    Args:
        catalog: the whole catalog as it would be.
        now: objects that ended before may name what is retired.
        pointers: where values, by identity, stand in the document being applied.
        only: the objects that changed, where nothing can be wrong with those that name them:
            customers and contracts that are stated, not retired. Default: look at all.
    """
    findings = Findings(pointers or {}, only)
    check_references(catalog, findings, now=now)
    check_parents(catalog, findings)
    check_subjects(catalog, findings)
    products = check_products(catalog, findings)
    check_prices(catalog, findings, products=products)
    check_contracts(catalog, findings)
    return findings.errors
