"""Which contracts may need adjustments: those touched since the books were last settled.

Closing a month compares everything closed with what it comes to; what is left different then is
remembered. So only what events or catalog have touched since needs another look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

import polars as pl

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.ids import Subject
from catalog.indexed import PerCatalog
from catalog.snapshot import Catalog, Chain
from invoicing.placement import last_midnight
from invoicing.ports import Arrivals, Arrived, BooksState, Catalogs, Inspection
from invoicing.view import BEGINNING
from rating.frames import LineKind

K = TypeVar("K")
V = TypeVar("V")


class Touched:
    """Contracts touched since the last close: by a statement, an event, or a compensation."""

    def __init__(self, *, catalogs: Catalogs, arrivals: Arrivals) -> None:
        self._catalogs = catalogs
        self._arrivals = arrivals
        self._payers = PerCatalog(_contracts_by_subject)
        self._subjects = PerCatalog(lambda catalog: _subjects_by_contract(self._payers(catalog)))
        self._differences: tuple[Catalog, Catalog, frozenset[str]] | None = None

    def _claimed(self, catalog: Catalog, contracts: Collection[str]) -> frozenset[Subject]:
        """Every subject that one of ``contracts`` ever had a claim to."""
        known = self._subjects(catalog)
        return frozenset(subject for name in contracts for subject in known.get(name, ()))

    def _restated(self, then: Catalog, now: Catalog) -> frozenset[str]:
        """Contracts whose terms may differ, remembered for the last two catalogs asked about."""
        held = self._differences
        if held is None or held[0] is not then or held[1] is not now:
            held = self._differences = then, now, frozenset(_restated(then, now))
        return held[2]

    def of(self, asked: Inspection) -> Collection[str]:
        """Every contract of which a closed line could be another one."""
        catalog, state, among = asked.catalog, asked.state, asked.among
        settled, found = _last_settled(state)
        then = self._catalogs.as_of(settled)
        if then.revision != catalog.revision:
            found |= self._restated(then, catalog)
        payers = self._payers(catalog)
        early = _usage_closed_early(asked.ahead)
        arrived = Arrived(
            after=settled,
            upto=asked.as_of,
            before=last_midnight(catalog, max(state.closed_until, BEGINNING)),
            always=self._claimed(catalog, early),
            among=None if among is None else self._claimed(catalog, among),
        )
        for subject in self._arrivals.subjects(arrived):
            found |= payers.get(subject, set())
        return found


def _last_settled(state: BooksState) -> tuple[Micros, set[str]]:
    """When everything closed was last compared, and which contracts were left different."""
    if state.months:
        return state.months[-1].as_of, set(state.months[-1].unsettled)
    assert state.first_issue is not None
    return state.first_issue, set()


def _usage_closed_early(ahead: pl.DataFrame) -> set[str]:
    """Contracts with usage closed by an invoice before its month was: any event may touch it."""
    fixed = (pl.col("kind") == LineKind.FIXED.value) | (pl.col("timing") == "advance")
    return set(ahead.filter(~fixed)["contract"])


def _contracts_by_subject(catalog: Catalog) -> dict[str, set[str]]:
    """The contracts that have ever had a claim to a subject's usage."""
    by_customer: dict[str, set[str]] = {}
    for name, chain in catalog.contracts.items():
        for contract in chain.values:
            by_customer.setdefault(contract.customer, set()).add(str(name))
    found: dict[str, set[str]] = {}
    for customer, claims in catalog.customers.items():
        for version in claims.values:
            for claim in version.subjects:
                own = by_customer.get(customer, set())
                found.setdefault(claim.subject, set()).update(own)
    return found


def _subjects_by_contract(payers: Mapping[str, set[str]]) -> dict[str, set[Subject]]:
    found: dict[str, set[Subject]] = {}
    for subject, contracts in payers.items():
        for contract in contracts:
            found.setdefault(contract, set()).add(Subject(subject))
    return found


def _restated(then: Catalog, now: Catalog) -> Iterator[str]:
    """Contracts whose terms may differ: their own, their customer's, their pricebook's.

    Products and meters are everybody's; new ones are nobody's yet.
    """
    shared = _changed(then.products, now.products) & set(then.products)
    if shared or _changed(then.meters, now.meters) & set(then.meters):
        yield from map(str, now.contracts)
        return
    books = {str(name) for name in _changed(then.pricebooks, now.pricebooks)}
    customers = {str(name) for name in _changed(then.customers, now.customers)}
    contracts = {str(name) for name in _changed(then.contracts, now.contracts)}
    for name, chain in now.contracts.items():
        own = str(name) in contracts or any(v.customer in customers for v in chain.values)
        if own or any(_pricebooks(value) & books for value in chain.values):
            yield str(name)


def _changed(then: Mapping[K, Chain[V]], now: Mapping[K, Chain[V]]) -> set[K]:
    """What is new, or another than it was."""
    return {name for name, chain in now.items() if then.get(name) != chain}


def _pricebooks(contract: Contract) -> set[str]:
    named = [contract.pricebook, *(a.pricebook for a in contract.amendments)]
    return {str(name) for name in named if name is not None}
