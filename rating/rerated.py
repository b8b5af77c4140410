"""How many lines a change of the catalog rates anew: what the diff of ``apply`` says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from itertools import islice
from typing import TypeVar

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.ids import ContractId, CustomerId
from catalog.references import stages
from catalog.snapshot import Catalog, Chain
from catalog.subjects import Claim, claims_of
from rating.frames import LineKind
from rating.plan import Chosen, LinePlan, plan_lines
from rating.timeline import Term

K = TypeVar("K")

LINES_MAX = 10_000
"""Counting stops here: a change of every price of a large catalog is not planned twice."""

_CONTRACTS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Begun:
    """Billing periods that have begun by ``as_of``."""

    as_of: Micros

    def of(self, term: Term) -> Chosen:
        """The same for every contract."""
        del term
        return self

    def window(self, term: Term) -> tuple[Micros, Micros]:
        """From the contract's start."""
        return term.start, Micros(self.as_of + 1)

    def wants(self, period: object, accounting: date) -> bool:
        """All that the window holds."""
        del period, accounting
        return True


def lines_rerated(before: Catalog, after: Catalog, *, as_of: Micros) -> int:
    """How many lines of billing periods begun by ``as_of`` are rated otherwise after a change.

    Counted are lines there were before, once whatever their groups: those whose terms, part of the
    period or usage differ, and those that are no more; all of a contract where terms of the whole
    contract differ. Whether an amount does is not asked. Counting stops at :data:`LINES_MAX`,
    which then means that many or more.
    """
    claimants = _claimants(before, after)
    touched = _touched(before, after, claimants)
    count = 0
    while count < LINES_MAX and (some := list(islice(touched, _CONTRACTS_AT_ONCE))):
        count += sum(1 for _ in _differing(before, after, some, claimants=claimants, as_of=as_of))
    return min(count, LINES_MAX)


def _differing(
    before: Catalog,
    after: Catalog,
    contracts: list[ContractId],
    *,
    claimants: set[CustomerId],
    as_of: Micros,
) -> Iterator[str]:
    old, new = (
        {plan.line_id(""): plan for plan in plan_lines(catalog, Begun(as_of), contracts=contracts)}
        for catalog in (before, after)
    )
    whole = {contract for contract in contracts if _as_a_whole(before, after, contract)}
    for line, plan in old.items():
        now = new.get(line)
        claimed = plan.terms.kind is LineKind.USAGE and plan.customer in claimants
        if now is None or plan.contract in whole or claimed or _said(plan) != _said(now):
            yield line


def _said(plan: LinePlan) -> tuple[object, ...]:
    """What a plan says but for which revision said it."""
    part = plan.part
    stated = {each.name: getattr(part, each.name) for each in fields(part)}
    stated["origin"] = replace(plan.origin, revision=0)
    return plan.contract, plan.customer, stated


def _as_a_whole(before: Catalog, after: Catalog, contract: ContractId) -> bool:
    """Whether what acts on all lines of a contract differs: discounts, credits and the like."""
    return _whole(before.contracts.get(contract)) != _whole(after.contracts.get(contract))


def _whole(chain: Chain[Contract] | None) -> list[object]:
    return [
        (
            version.effective_from,
            [(a.effective_from, a.discounts, a.commitments) for a in version.value.amendments],
            version.value.discounts,
            version.value.commitments,
            version.value.minimum,
            version.value.credits,
            version.value.trial,
        )
        for version in (chain.versions if chain else ())
    ]


def _claimants(before: Catalog, after: Catalog) -> set[CustomerId]:
    """Customers who pay for other subjects than before, or at other times."""
    old, new = _claims(before), _claims(after)
    return {customer for customer in old.keys() | new.keys() if old[customer] != new[customer]}


def _claims(catalog: Catalog) -> defaultdict[CustomerId, set[tuple[str, Claim]]]:
    found: defaultdict[CustomerId, set[tuple[str, Claim]]] = defaultdict(set)
    for subject, claim in claims_of(catalog):
        found[claim.customer].add((subject, claim))
    return found


def _touched(
    before: Catalog, after: Catalog, claimants: Iterable[CustomerId]
) -> Iterator[ContractId]:
    """Contracts there were that a change may concern: all where a product or meter changed."""
    everywhere = before.products != after.products or before.meters != after.meters
    books = _changed(before.pricebooks, after.pricebooks)
    customers = set(claimants)
    own = _changed(before.contracts, after.contracts)
    for contract, chain in sorted(before.contracts.items()):
        named = {terms.pricebook for value in chain.values for terms in stages(value)}
        paying = {value.customer for value in chain.values}
        if everywhere or contract in own or named & books or paying & customers:
            yield contract


def _changed(before: Mapping[K, object], after: Mapping[K, object]) -> set[object]:
    """Ids of chains that differ."""
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
