"""The live catalog with one proposed contract in it, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from api.models.whatif import QuoteRequest, wrong
from catalog.changes import Unsupported, plan
from catalog.clock import Micros
from catalog.contracts import Contract, Customer
from catalog.errors import FieldError
from catalog.grammar import Document, InvalidDocument, parse_object
from catalog.ids import ContractId, CustomerId, Kind, is_id
from catalog.snapshot import Catalog, Chain, Version

QUOTED = "quote"
"""The id of a contract, and of a customer, that has none."""


def alone(
    live: Catalog, asked: QuoteRequest, unsupported: Unsupported, as_of: Micros
) -> tuple[Catalog, ContractId]:
    """The live catalog with the proposed contract and its customer, and no other."""
    customer = _customer(live, asked)
    named = asked.contract
    if isinstance(named, str):
        chain = live.contracts.get(ContractId(named))
        if chain is None:
            raise wrong("/contract", f"there is no contract '{named[:200]}'")
        return _with(live, chain, customer or chain.last.customer)
    tree = named
    if isinstance(named, Mapping) and not {"customer", "versions"} & set(named):
        tree = {**named, "customer": customer or QUOTED}
    who = tree.get("customer") if isinstance(tree, Mapping) else None
    base = replace(
        live, contracts={}, customers=_one(live, who if isinstance(who, str) else QUOTED)
    )
    document = _parsed(tree)
    try:
        planned = plan(base, document, unsupported=unsupported, now=max(as_of, live.recorded_at))
    except InvalidDocument as error:
        raise _in_contract(error) from error
    chain = planned.catalog.contracts[ContractId(QUOTED)]
    return _with(live, chain, customer or chain.last.customer)


def _customer(live: Catalog, asked: QuoteRequest) -> CustomerId | None:
    """Whose history it is."""
    if asked.history is None:
        return None
    customer = CustomerId(asked.history.customer)
    if customer not in live.customers:
        raise wrong("/history/customer", f"there is no customer '{customer[:200]}'")
    return customer


def _one(live: Catalog, customer: str) -> dict[CustomerId, Chain[Customer]]:
    """A customer's chain; one that is not in the catalog claims nothing."""
    if not is_id(customer):
        return {}
    known = live.customers.get(CustomerId(customer))
    made = Customer(id=CustomerId(customer), name=customer, subjects=())
    version = Version(
        value=made, effective_from=None, effective_until=None, recorded_at=Micros(0), revision=0
    )
    return {CustomerId(customer): known or Chain(versions=(version,))}


def _with(
    live: Catalog, chain: Chain[Contract], customer: CustomerId
) -> tuple[Catalog, ContractId]:
    versions = tuple(
        replace(version, value=replace(version.value, customer=customer))
        for version in chain.versions
    )
    contract = chain.last.id
    return (
        replace(
            live,
            customers=_one(live, customer),
            contracts={contract: Chain(versions=versions)},
        ),
        contract,
    )


def _parsed(tree: object) -> Document:
    try:
        return Document(objects=(parse_object(Kind.CONTRACTS, QUOTED, tree),))
    except InvalidDocument as error:
        raise _in_contract(error) from error


def _in_contract(error: InvalidDocument) -> InvalidDocument:
    errors = [
        FieldError(pointer=f"/contract{each.pointer}", detail=each.detail) for each in error.errors
    ]
    return InvalidDocument(error.detail, errors=errors)
