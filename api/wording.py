"""What the page of an invoice says beside its JSON: names and days, as its catalog knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from catalog.ids import ContractId, CustomerId, JurisdictionId, ProductId
from catalog.snapshot import Catalog, Chain
from outbound.tax import taxed_where

K = TypeVar("K", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Names by id, of products and tax tables, and whose days instants are shown as.

    ``registration`` is the tax number of who is billed; ``exempt`` is why nothing is charged.
    """

    products: Mapping[str, str] = field(default_factory=dict)
    taxes: Mapping[str, str] = field(default_factory=dict)
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    registration: str | None = None
    exempt: str | None = None

    def day(self, instant: str) -> str:
        """The day of an instant (RFC 3339)."""
        return self._local(instant).date().isoformat()

    def days(self, start: str, end: str | None) -> str:
        """The days of a half-open period, the last one included."""
        if end is None:
            return f"from {self.day(start)}"
        last = self._local(end) - timedelta(microseconds=1)
        return f"{self.day(start)} to {max(last, self._local(start)).date()}"

    def _local(self, instant: str) -> datetime:
        return datetime.fromisoformat(instant).replace(tzinfo=UTC).astimezone(self.zone)


def wording_of(invoice: Mapping[str, Any], catalog: Catalog) -> Wording:
    """How an invoice (its JSON, lines included) is worded.

    Args:
        invoice: issued or not.
        catalog: of the instant that the invoice is as of: the same page is made for ever.
    """
    products = {ProductId(line["product"]) for line in invoice["lines"] if line["product"]}
    tables = {JurisdictionId(tax["jurisdiction"]) for tax in invoice["taxes"]}
    on = date.fromisoformat(invoice["accounting_date"])
    where = taxed_where(catalog, CustomerId(invoice["customer"]), on) if tables else None
    return Wording(
        products=_names(catalog.products, products),
        taxes=_names(catalog.taxes, tables),
        zone=_zone(invoice, catalog),
        registration=where.registration if where else None,
        exempt=where.exempt if where else None,
    )


def _names(chains: Mapping[K, Chain[Any]], wanted: Iterable[K]) -> dict[str, str]:
    return {
        str(name): chain.last.name
        for name in wanted
        if (chain := chains.get(name)) and chain.versions
    }


def _zone(invoice: Mapping[str, Any], catalog: Catalog) -> ZoneInfo:
    """The calendar of the (first) contract that is billed."""
    contracts = [invoice["contract"], *(line["contract"] for line in invoice["lines"])]
    for name in filter(None, contracts):
        chain = catalog.contracts.get(ContractId(name))
        if chain and chain.versions and chain.last.timezone:
            return ZoneInfo(chain.last.timezone)
    return catalog.timezone
