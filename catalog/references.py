"""What a catalog object names: other objects, prices, and the terms of a contract in stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from catalog.charges import Capacity, Flat
from catalog.contracts import Amendment, Contract, Customer, PriceOverride
from catalog.grammar import Value
from catalog.ids import Kind, PricebookId, ProductId
from catalog.meters import Meter
from catalog.pricebooks import Entitlement, Moment, Price, Pricebook
from catalog.products import Feature, Product
from catalog.snapshot import Catalog
from catalog.taxes import TaxTable


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that another names, and where in it (a JSON pointer relative to the object)."""

    kind: Kind
    id: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A meter whose usage a price counts: not every price can count every meter."""

    price: Price
    meter: Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A contract's pricebook and overrides over one stage: from its start or an amendment on.

    ``path`` and ``prices_path`` say where pricebook and overrides of this stage are written;
    what an amendment does not name stays, also in where it is written.
    """

    path: str
    since: Moment
    pricebook: PricebookId | None
    prices: tuple[PriceOverride, ...]
    prices_path: str


def references(value: Value) -> Iterator[Reference]:
    """Every object that ``value`` names."""
    match value:
        case Product() | Feature():
            if value.meter is not None:
                yield Reference(Kind.METERS, value.meter, "/meter")
        case Customer():
            if value.parent is not None:
                yield Reference(Kind.CUSTOMERS, value.parent, "/parent")
            if value.tax is not None:
                yield Reference(Kind.TAXES, value.tax.jurisdiction, "/tax/jurisdiction")
        case Pricebook():
            yield from _of_prices(value)
            yield from _of_entitlements(value.entitlements)
        case Contract():
            yield from _of_contract(value)
        case Meter() | TaxTable():
            return


def prices_of(value: Value) -> Iterator[tuple[str, Price]]:
    """Every price written in a pricebook or contract, with where."""
    match value:
        case Pricebook():
            for index, price in enumerate(value.prices):
                yield f"/prices/{index}", price
        case Contract():
            for path, override in overrides_of(value):
                if override.price is not None:
                    yield path, override.price
        case _:
            return


def overrides_of(contract: Contract) -> Iterator[tuple[str, PriceOverride]]:
    """Every override written in a contract and its amendments, with where."""
    for index, override in enumerate(contract.prices):
        yield f"/prices/{index}", override
    for number, amendment in enumerate(contract.amendments):
        for index, override in enumerate(amendment.prices or ()):
            yield f"/amendments/{number}/prices/{index}", override


def stages(contract: Contract) -> Iterator[Terms]:
    """The contract's terms from its start on, then from each amendment on."""
    terms = Terms(
        path="",
        since=contract.start,
        pricebook=contract.pricebook,
        prices=contract.prices,
        prices_path="/prices",
    )
    yield terms
    for number, amendment in enumerate(contract.amendments):
        place = f"/amendments/{number}"
        renewed = amendment.prices is not None
        terms = Terms(
            path=place if amendment.pricebook else terms.path,
            since=amendment.effective_from,
            pricebook=amendment.pricebook or terms.pricebook,
            prices=terms.prices if amendment.prices is None else amendment.prices,
            prices_path=f"{place}/prices" if renewed else terms.prices_path,
        )
        yield terms


def books(catalog: Catalog, pricebook: PricebookId | None) -> tuple[Pricebook, ...]:
    """Every version of a pricebook; none where there is no such pricebook."""
    if pricebook is None or pricebook not in catalog.pricebooks:
        return ()
    return catalog.pricebooks[pricebook].values


def last_end(contract: Contract) -> Moment | None:
    """When the contract ends once every amendment is in force; None: it does not."""
    ends = [amendment.end for amendment in contract.amendments if amendment.end is not None]
    return ends[-1] if ends else contract.end


def counted_meters(catalog: Catalog, price: Price) -> tuple[Meter, ...]:
    """Every version of every meter whose usage ``price`` counts or ever did; none twice."""
    charge = price.charge
    if price.quantity is not None or isinstance(charge, Flat):
        return ()
    if isinstance(charge, Capacity):
        names = {meter for tier in charge.tiers for meter, _ in tier.up_to or ()}
    else:
        chain = catalog.products.get(price.product)
        names = {value.meter for value in chain.values if value.meter} if chain else set()
    chains = (catalog.meters.get(name) for name in sorted(names))
    return tuple(meter for chain in chains if chain is not None for meter in chain.values)


def _of_prices(value: Value) -> Iterator[Reference]:
    for path, price in prices_of(value):
        yield Reference(Kind.PRODUCTS, price.product, f"{path}/product")
        if isinstance(price.charge, Capacity):
            for index, tier in enumerate(price.charge.tiers):
                for meter, _ in tier.up_to or ():
                    place = f"{path}/charge/tiers/{index}/up_to/{meter}"
                    yield Reference(Kind.METERS, meter, place)


def _of_entitlements(entitlements: Sequence[Entitlement]) -> Iterator[Reference]:
    for index, entitlement in enumerate(entitlements):
        yield Reference(Kind.FEATURES, entitlement.feature, f"/entitlements/{index}/feature")


def _of_contract(contract: Contract) -> Iterator[Reference]:
    yield Reference(Kind.CUSTOMERS, contract.customer, "/customer")
    if contract.pricebook is not None:
        yield Reference(Kind.PRICEBOOKS, contract.pricebook, "/pricebook")
    yield from _of_prices(contract)
    for path, override in overrides_of(contract):
        if override.price is None:
            yield Reference(Kind.PRODUCTS, override.product, f"{path}/product")
    yield from _of_entitlements(contract.entitlements)
    for path, products in _scopes(contract):
        for product in products or ():
            yield Reference(Kind.PRODUCTS, product, f"{path}/products")
    for number, amendment in enumerate(contract.amendments):
        if amendment.pricebook is not None:
            place = f"/amendments/{number}/pricebook"
            yield Reference(Kind.PRICEBOOKS, amendment.pricebook, place)


def _scopes(contract: Contract) -> Iterator[tuple[str, tuple[ProductId, ...] | None]]:
    """What discounts, commitments and credits are limited to."""
    for index, credit in enumerate(contract.credits):
        yield f"/credits/{index}", credit.products
    terms: list[tuple[str, Contract | Amendment]] = [("", contract)]
    terms += [(f"/amendments/{n}", held) for n, held in enumerate(contract.amendments)]
    for place, held in terms:
        for index, discount in enumerate(held.discounts or ()):
            yield f"{place}/discounts/{index}", discount.products
        for index, commitment in enumerate(held.commitments or ()):
            yield f"{place}/commitments/{index}", commitment.products
