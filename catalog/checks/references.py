"""Whatever an object names must exist, and parents must not go in circles."""

from __future__ import annotations

from catalog.checks.findings import Findings, holds_from, is_live, values_of
from catalog.clock import Micros
from catalog.grammar import Value
from catalog.history import chains_of
from catalog.ids import CustomerId, Kind
from catalog.references import references
from catalog.snapshot import Catalog, Version

_ONE = {
    Kind.METERS: "meter",
    Kind.FEATURES: "feature",
    Kind.PRODUCTS: "product",
    Kind.PRICEBOOKS: "pricebook",
    Kind.CUSTOMERS: "customer",
    Kind.CONTRACTS: "contract",
}


def check_references(catalog: Catalog, findings: Findings, *, now: Micros) -> None:
    """Names of nothing, and names of retired objects in what is still in force."""
    live = {
        kind: {name for name, chain in chains.items() if is_live(chain, now, catalog.timezone)}
        for kind, chains in ((kind, chains_of(catalog, kind)) for kind in Kind)
    }
    for kind in Kind:
        for version in values_of(catalog, kind):
            _check_one(catalog, version, kind, live=live, findings=findings, now=now)


def _check_one(
    catalog: Catalog,
    version: Version[Value],
    kind: Kind,
    *,
    live: dict[Kind, set[str]],
    findings: Findings,
    now: Micros,
) -> None:
    for reference in references(version.value):
        if reference.id in live[reference.kind]:
            continue
        named = f"{_ONE[reference.kind]} '{reference.id}'"
        if reference.id not in chains_of(catalog, reference.kind):
            findings.note(kind, version.value, reference.path, f"there is no {named}")
        elif holds_from(version, now, catalog.timezone):
            findings.note(kind, version.value, reference.path, f"{named} is retired")


def check_parents(catalog: Catalog, findings: Findings) -> None:
    """No customer is, over however many steps, its own parent (whatever the version)."""
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
