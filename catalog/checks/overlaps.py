"""Warnings: usage that more than one contract of a customer prices, each in full."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from zoneinfo import ZoneInfo

from catalog.checks.contracts import covers, list_prices
from catalog.checks.prices import is_metered
from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.ids import ContractId, CustomerId, ProductId
from catalog.references import last_end, stages
from catalog.snapshot import Catalog, Version
from catalog.subjects import bounds, span


@dataclass(frozen=True, slots=True)
class _Term:
    contract: ContractId
    since: Micros
    until: Micros
    products: frozenset[ProductId]


def double_pricing(catalog: Catalog, *, customers: set[CustomerId]) -> Iterator[str]:
    """One warning per pair of contracts of ``customers`` that price the same usage."""
    terms: defaultdict[CustomerId, list[_Term]] = defaultdict(list)
    for chain in catalog.contracts.values():
        for version in chain.versions:
            if version.value.customer in customers:
                terms[version.value.customer].append(_term(catalog, version))
    for customer, held in sorted(terms.items()):
        seen: set[tuple[ContractId, ContractId]] = set()
        for first, second in combinations(held, 2):
            pair = first.contract, second.contract
            both = first.products & second.products
            together = max(first.since, second.since) < min(first.until, second.until)
            if both and together and pair[0] != pair[1] and pair not in seen:
                seen.add(pair)
                yield (
                    f"contracts '{pair[0]}' and '{pair[1]}' of customer '{customer}' both price "
                    f"the usage of {', '.join(sorted(both)[:5])}: it is billed by each"
                )


def _term(catalog: Catalog, version: Version[Contract]) -> _Term:
    contract = version.value
    zone = ZoneInfo(contract.timezone) if contract.timezone else catalog.timezone
    begin, end = bounds(contract.start, last_end(contract), zone)
    since, until = span(version, zone)
    return _Term(
        contract.id, max(begin, since), min(end, until), frozenset(_priced(catalog, contract))
    )


def _priced(catalog: Catalog, contract: Contract) -> Iterator[ProductId]:
    """Products whose usage the contract prices in some stage."""
    for terms in stages(contract):
        for price in list_prices(catalog, terms.pricebook):
            gone = any(covers(held, price) and (held.remove or held.price) for held in terms.prices)
            if is_metered(price) and not gone:
                yield price.product
        for held in terms.prices:
            if held.price is not None and is_metered(held.price):
                yield held.product
