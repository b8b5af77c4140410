"""Whatever an object names must exist, and parents must not go in circles."""

from __future__ import annotations

from catalog.checks.findings import Findings, holds_from, is_live
from catalog.clock import Micros
from catalog.grammar import Value
from catalog.history import chains_of
from catalog.ids import CustomerId, Kind
from catalog.references import Reference, references
from catalog.snapshot import Catalog, Version

_ONE = {
    Kind.METERS: "meter",
    Kind.FEATURES: "feature",
    Kind.PRODUCTS: "product",
    Kind.PRICEBOOKS: "pricebook",
    Kind.CUSTOMERS: "customer",
    Kind.CONTRACTS: "contract",
    Kind.TAXES: "tax table",
}


def check_references(catalog: Catalog, findings: Findings, *, now: Micros) -> None:
    """Names of nothing, and names of retired objects in what is still in force."""
    live: dict[tuple[Kind, str], bool] = {}
    for kind in Kind:
        for version in findings.versions(catalog, kind):
            for reference in references(version.value):
                target = reference.kind, reference.id
                if target not in live:
                    chain = chains_of(catalog, reference.kind).get(reference.id)
                    live[target] = is_live(chain, now, catalog.timezone)
                if not live[target]:
                    detail = _dangling(catalog, version, reference, now=now)
                    if detail is not None:
                        findings.note(kind, version.value, reference.path, detail)


def _dangling(
    catalog: Catalog, version: Version[Value], reference: Reference, *, now: Micros
) -> str | None:
    """What is wrong with naming an object that is not in force, if anything."""
    named = f"{_ONE[reference.kind]} '{reference.id}'"
    if reference.id not in chains_of(catalog, reference.kind):
        return f"there is no {named}"
    return f"{named} is retired" if holds_from(version, now, catalog.timezone) else None


def check_parents(catalog: Catalog, findings: Findings) -> None:
    """No customer is, over however many steps, its own parent (whatever the version)."""
    if not any(True for _ in findings.versions(catalog, Kind.CUSTOMERS)):
        return
    parents: dict[CustomerId, list[CustomerId]] = {
        customer: [value.parent for value in chain.values if value.parent is not None]
        for customer, chain in catalog.customers.items()
    }
    rootless = _rootless(parents)
    for customer in sorted(rootless):
        for value in catalog.customers[customer].values:
            if value.parent in rootless:
                findings.note(
                    Kind.CUSTOMERS, value, "/parent", "makes a circle: a parent's parent is itself"
                )


def _rootless(parents: dict[CustomerId, list[CustomerId]]) -> set[CustomerId]:
    """The customers on a circle (or above one): what is left when leaves are taken off."""
    children: dict[CustomerId, int] = dict.fromkeys(parents, 0)
    for named in parents.values():
        for parent in named:
            children[parent] = children.get(parent, 0) + 1
    free = [customer for customer, count in children.items() if not count]
    while free:
        customer = free.pop()
        children.pop(customer)
        for parent in parents.get(customer, ()):
            children[parent] -= 1
            if not children[parent]:
                free.append(parent)
    return _leading_back(set(children), parents)


def _leading_back(
    left: set[CustomerId], parents: dict[CustomerId, list[CustomerId]]
) -> set[CustomerId]:
    """Of ``left``, those whose own parents lead back: not the mere ancestors of a circle."""
    while True:
        kept = {customer for customer in left if any(p in left for p in parents.get(customer, ()))}
        if kept == left:
            return kept
        left = kept
