"""What a price asks of its product: a meter, dimensions, a timing that fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from catalog.charges import Capacity, Flat, Matrix
from catalog.checks.findings import Findings
from catalog.contracts import Contract
from catalog.grammar import Value, step
from catalog.ids import Kind, MeterId, ProductId
from catalog.pricebooks import Invoicing, Price, Pricebook, Timing
from catalog.products import Product
from catalog.references import books, prices_of, stages
from catalog.snapshot import Catalog


@dataclass(frozen=True, slots=True)
class Metered:
    """What can be known of a product's usage, over all versions of it and of its meter."""

    metered: bool
    billable: bool
    dimensions: frozenset[str]


def is_metered(price: Price) -> bool:
    """Whether a price takes a quantity from usage."""
    return price.quantity is None and not isinstance(price.charge, Flat)


def check_products(catalog: Catalog, findings: Findings) -> dict[ProductId, Metered]:
    """Filters name dimensions of the product's meter. Returns what prices may rely on.

    Products whose meter does not exist are left out: that alone is reported of them.
    """
    for version in findings.versions(catalog, Kind.PRODUCTS):
        product = version.value
        meter = product.meter if isinstance(product, Product) else None
        if not isinstance(product, Product) or meter is None or meter not in catalog.meters:
            continue
        known = _dimensions(catalog, [meter])
        for condition in product.filter:
            if condition.path not in known:
                path = step("/filter", condition.path)
                detail = f"meter '{meter}' has no dimension '{condition.path}'"
                findings.note(Kind.PRODUCTS, product, path, detail)
    return {
        product: _metered(catalog, product)
        for product, chain in catalog.products.items()
        if all(value.meter is None or value.meter in catalog.meters for value in chain.values)
    }


def _metered(catalog: Catalog, product: ProductId) -> Metered:
    meters = [v.meter for v in catalog.products[product].values if v.meter is not None]
    return Metered(
        metered=bool(meters),
        billable=all(
            meter.billable
            for name in meters
            if name in catalog.meters
            for meter in catalog.meters[name].values[-1:]
        ),
        dimensions=_dimensions(catalog, meters),
    )


def _dimensions(catalog: Catalog, meters: Iterable[MeterId]) -> frozenset[str]:
    return frozenset(
        name
        for meter in meters
        if meter in catalog.meters
        for value in catalog.meters[meter].values
        for name, _ in value.dimensions
    )


def check_prices(
    catalog: Catalog, findings: Findings, *, products: dict[ProductId, Metered]
) -> None:
    """Every price of every pricebook and contract fits its product and its timing."""
    for kind in (Kind.PRICEBOOKS, Kind.CONTRACTS):
        for version in findings.versions(catalog, kind):
            value = version.value
            for path, price in prices_of(value):
                if price.product in products:
                    for place, detail in _wrong(price, products[price.product]):
                        findings.note(kind, value, f"{path}{place}", detail)
            for path, detail in _wrong_timing(catalog, value):
                findings.note(kind, value, path, detail)


def _wrong(price: Price, product: Metered) -> Iterator[tuple[str, str]]:
    if is_metered(price) and not isinstance(price.charge, Capacity):
        if not product.metered:
            detail = f"product '{price.product}' has no meter: give a flat charge or a 'quantity'"
            yield "/charge", detail
            return
        if not product.billable:
            yield "/product", f"the meter of product '{price.product}' is not billable"
    for index, name in enumerate(price.group_by):
        if name not in product.dimensions:
            yield f"/group_by/{index}", _unknown(price, name)
    if isinstance(price.charge, Matrix):
        for index, row in enumerate(price.charge.rows):
            for name, _ in row.when:
                if name not in product.dimensions:
                    yield step(f"/charge/rows/{index}/when", name), _unknown(price, name)


def _unknown(price: Price, name: str) -> str:
    return f"the meter of product '{price.product}' has no dimension '{name}'"


def _wrong_timing(catalog: Catalog, value: Value) -> Iterator[tuple[str, str]]:
    """Usage cannot be billed before it happened."""
    detail = "usage cannot be billed in advance: bill in arrears, or give a fixed 'quantity'"
    match value:
        case Pricebook():
            general: list[Invoicing] = [value.invoicing]
        case Contract(invoicing=None):
            general = [
                book.invoicing
                for terms in stages(value)
                for book in books(catalog, terms.pricebook)
            ]
        case Contract(invoicing=Invoicing() as own):
            general = [own]
            if own.timing is Timing.ADVANCE and any(_inherited(catalog, value)):
                yield "/invoicing", f"{detail} (metered list prices follow this)"
        case _:
            return
    for path, price in prices_of(value):
        timings = [price.invoicing] if price.invoicing else general
        if is_metered(price) and any(timing.timing is Timing.ADVANCE for timing in timings):
            yield f"{path}/invoicing" if price.invoicing else path, detail


def _inherited(catalog: Catalog, contract: Contract) -> Iterator[bool]:
    """Metered list prices that take the contract's invoicing."""
    for terms in stages(contract):
        replaced = {held.product for held in terms.prices if held.price or held.remove}
        for book in books(catalog, terms.pricebook):
            for price in book.prices:
                if price.product not in replaced and price.invoicing is None:
                    yield is_metered(price)
