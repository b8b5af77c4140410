"""What a whole catalog reads from events: its meters, and prices that events name themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from catalog.charges import Capacity, Charge, Dynamic
from catalog.contracts import Contract
from catalog.ids import MeterId, ProductId, SpecId
from catalog.meters import FactSpec, Meter
from catalog.pricebooks import Pricebook
from catalog.references import prices_of
from catalog.snapshot import Catalog


def fact_specs(catalog: Catalog) -> dict[SpecId, FactSpec]:
    """Every fact spec that any version of any meter or dynamic price needs, by id."""
    meters = (meter for chain in catalog.meters.values() for meter in chain.values)
    specs = [*(meter.fact_spec for meter in meters), *dynamic_specs(catalog)]
    return {spec.id: spec for spec in specs}


def dynamic_specs(catalog: Catalog) -> set[FactSpec]:
    """What dynamic prices read: the events of their product's meter, and in them the amount."""
    wanted = {
        (product, charge.amount)
        for product, charge in _charges(catalog)
        if isinstance(charge, Dynamic)
    }
    if not wanted:
        return set()
    products = {id: chain.values for id, chain in catalog.products.items()}  # noqa: A001
    metered = {id: {p.meter for p in values if p.meter} for id, values in products.items()}  # noqa: A001
    meters = {id: chain.values for id, chain in catalog.meters.items()}  # noqa: A001
    return specs_of_amounts(wanted, metered, meters)


def specs_of_amounts(
    wanted: Iterable[tuple[ProductId, str]],
    metered: Mapping[ProductId, Iterable[MeterId]],
    meters: Mapping[MeterId, Iterable[Meter]],
) -> set[FactSpec]:
    """What reads each amount: every meter that each product has or had, at that path."""
    return {
        meter.reading(path)
        for product, path in wanted
        for name in metered.get(product, ())
        for meter in meters.get(name, ())
    }


def capacity_meters(catalog: Catalog) -> set[MeterId]:
    """Meters that capacity charges limit: they are priced without being any product's."""
    return {
        meter
        for _, charge in _charges(catalog)
        if isinstance(charge, Capacity)
        for tier in charge.tiers
        for meter, _ in tier.up_to or ()
    }


def _charges(catalog: Catalog) -> Iterator[tuple[ProductId, Charge]]:
    """Every charge of every version of every price, with its product."""
    books = [value for chain in catalog.pricebooks.values() for value in chain.values]
    contracts = [value for chain in catalog.contracts.values() for value in chain.values]
    values: list[Pricebook | Contract] = [*books, *contracts]
    for value in values:
        for _, price in prices_of(value):
            yield price.product, price.charge
