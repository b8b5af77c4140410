"""What a contract asks of its pricebook: one currency, list prices to override, features."""

from __future__ import annotations

from collections.abc import Iterator

from catalog.checks.findings import Findings
from catalog.contracts import Contract, PriceOverride
from catalog.grammar import Value
from catalog.ids import Kind, PricebookId
from catalog.meters import ADDITIVE
from catalog.pricebooks import Entitlement, Price, Pricebook
from catalog.products import Feature, FeatureKind
from catalog.references import Terms, books, stages
from catalog.snapshot import Catalog


def check_contracts(catalog: Catalog, findings: Findings) -> None:
    """Currencies, overrides and entitlements of every contract and pricebook."""
    for version in findings.versions(catalog, Kind.PRICEBOOKS):
        if isinstance(version.value, Pricebook):
            first = catalog.pricebooks[version.value.id].values[0]
            if version.value.currency != first.currency:
                detail = f"this pricebook is in {first.currency}; a chain keeps its currency"
                findings.note(Kind.PRICEBOOKS, version.value, "/currency", detail)
    for version in findings.versions(catalog, Kind.CONTRACTS):
        if isinstance(version.value, Contract):
            for path, detail in _wrong(catalog, version.value):
                findings.note(Kind.CONTRACTS, version.value, path, detail)
    for kind in (Kind.PRICEBOOKS, Kind.CONTRACTS):
        for version in findings.versions(catalog, kind):
            for path, detail in _wrong_entitlements(catalog, version.value):
                findings.note(kind, version.value, path, detail)


def _wrong(catalog: Catalog, contract: Contract) -> Iterator[tuple[str, str]]:
    yield from _wrong_currency(catalog, contract)
    missed: dict[str, str] = {}
    found: set[str] = set()
    for terms in stages(contract):
        listed = list_prices(catalog, terms.pricebook)
        for index, override in enumerate(terms.prices):
            if not _is_known(catalog, override, terms):
                continue
            path = f"{terms.prices_path}/{index}"
            missing = _names_nothing(override, listed, terms)
            if missing is None:
                found.add(path)
            else:
                missed.setdefault(path, missing)
        yield from _named_twice(terms)
    for path, missing in missed.items():
        if path not in found:
            yield path, missing


def list_prices(catalog: Catalog, pricebook: PricebookId | None) -> tuple[Price, ...]:
    """The prices of every version of a pricebook."""
    return tuple(price for book in books(catalog, pricebook) for price in book.prices)


def covers(override: PriceOverride, price: Price) -> bool:
    """Whether an override is about that list price."""
    same = override.product == price.product and not override.additional
    return same and override.overrides in {None, price.key}


def _names_nothing(override: PriceOverride, listed: tuple[Price, ...], terms: Terms) -> str | None:
    """Why an override changes nothing, or None where it does."""
    if override.price is not None and override.overrides is None:
        return None
    if any(covers(override, price) for price in listed):
        return None
    if terms.pricebook is None:
        return "there is no pricebook whose price this could change"
    name = f" named '{override.overrides}'" if override.overrides else ""
    return f"pricebook '{terms.pricebook}' has no price of '{override.product}'{name}"


def _is_known(catalog: Catalog, override: PriceOverride, terms: Terms) -> bool:
    """Whether what an override is about exists at all; where not, that alone is reported."""
    book = terms.pricebook is None or terms.pricebook in catalog.pricebooks
    return book and override.product in catalog.products


def _named_twice(terms: Terms) -> Iterator[tuple[str, str]]:
    seen: set[tuple[str, str | None]] = set()
    for index, override in enumerate(terms.prices):
        if override.price is None:
            target = override.product, override.overrides
            if target in seen:
                yield f"{terms.prices_path}/{index}", "changes the same list price a second time"
            seen.add(target)


def _wrong_currency(catalog: Catalog, contract: Contract) -> Iterator[tuple[str, str]]:
    """A contract has one currency: its own, else its first pricebook's, in every version."""
    currency = contract.currency
    first = _currency(catalog, catalog.contracts[contract.id].values[0])
    if None not in (first, own := _currency(catalog, contract)) and own != first:
        path = "/currency" if contract.currency else "/pricebook"
        yield path, f"this contract is in {first}; all versions of a contract keep its currency"
        return
    for terms in stages(contract):
        listed = books(catalog, terms.pricebook)
        if not listed:
            continue
        theirs = listed[0].currency
        currency = currency or theirs
        kept = _kept(catalog, terms) if theirs != currency else []
        if kept:
            path = "/currency" if not terms.path and contract.currency else "/pricebook"
            detail = (
                f"pricebook '{terms.pricebook}' is in {theirs}, the contract in {currency}, "
                f"and keeps list prices of {', '.join(kept[:5])}"
            )
            yield f"{terms.path}{path}", detail


def _currency(catalog: Catalog, contract: Contract) -> str | None:
    """The currency a version of a contract is in; null where its pricebook does not exist."""
    listed = (book for terms in stages(contract) for book in books(catalog, terms.pricebook))
    return contract.currency or next((book.currency for book in listed), None)


def _kept(catalog: Catalog, terms: Terms) -> list[str]:
    """The products whose list prices these terms keep, at their amount or a multiple of it."""
    return sorted(
        {
            price.product
            for price in list_prices(catalog, terms.pricebook)
            if not any(covers(held, price) and held.multiply is None for held in terms.prices)
        }
    )


def _wrong_entitlements(catalog: Catalog, value: Value) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Pricebook | Contract):
        return
    for index, entitlement in enumerate(value.entitlements):
        if entitlement.feature in catalog.features:
            feature = catalog.features[entitlement.feature].last
            detail = _misfit(entitlement, feature.kind) or _uncounted(catalog, feature)
            if detail is not None:
                yield f"/entitlements/{index}", f"feature '{entitlement.feature}' {detail}"


def _misfit(entitlement: Entitlement, kind: FeatureKind) -> str | None:
    match kind:
        case FeatureKind.METERED if entitlement.value is not None:
            return "is metered: give an 'amount' or 'unlimited: true'"
        case FeatureKind.BOOLEAN if entitlement.value != "true":
            return "is boolean: give 'value: true'"
        case FeatureKind.STATIC if entitlement.value is None:
            return "is static: give a 'value'"
        case _:
            return None


def _uncounted(catalog: Catalog, feature: Feature) -> str | None:
    """Why no allowance of a feature could be kept: usage must add up event by event."""
    chain = catalog.meters.get(feature.meter) if feature.meter else None
    if chain is None or chain.last.aggregation in ADDITIVE:
        return None
    return (
        f"is counted by meter '{feature.meter}' ({chain.last.aggregation}): "
        "an allowance needs a meter that is a sum or a count"
    )
