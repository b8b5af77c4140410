"""``customers: {c: {name, subjects, parent?, …}}``."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

from catalog.contracts import Customer, SubjectClaim
from catalog.grammar.nodes import Codec, Fields, Node, Record, listed, mapped, may, need, step
from catalog.grammar.prices import check_order
from catalog.grammar.scalars import CUSTOMER, MOMENT, NAME, SUBJECT, TEXT, WORD
from catalog.grammar.taxes import CUSTOMER_TAX
from catalog.moments import in_utc

SUBJECTS_MAX = 10_000

LABELS = mapped(NAME, WORD, most=100)
"""``external_ids`` and ``metadata``: free keys with short texts."""


def _check_claim(claim: SubjectClaim, fields: Fields) -> None:
    check_order(claim.since, claim.until, fields=fields, key="until")


_CLAIM = Record(
    SubjectClaim,
    need("subject", SUBJECT),
    may("from", MOMENT, "since"),
    may("until", MOMENT),
    check=_check_claim,
)


def _read_claim(node: Node) -> SubjectClaim:
    if isinstance(node.value, str):
        return SubjectClaim(subject=SUBJECT.read(node))
    return _CLAIM.read(node)


def _write_claim(claim: SubjectClaim) -> object:
    if claim.since is None and claim.until is None:
        return claim.subject
    return _CLAIM.write(claim)


def _check_customer(customer: Customer, fields: Fields) -> None:
    if customer.parent == customer.id:
        fields.refuse("parent", "a customer is not its own parent")
    claims: defaultdict[str, list[tuple[int, SubjectClaim]]] = defaultdict(list)
    for index, claim in enumerate(customer.subjects):
        claims[claim.subject].append((index, claim))
    for found in claims.values():
        for (_, first), (index, second) in combinations(found, 2):
            if not (_before(first, second) or _before(second, first)):
                place = step(f"{fields.node.pointer}/subjects", index)
                fields.node.problems.note(place, f"claims {second.subject!r} a second time")
                break


def _before(first: SubjectClaim, second: SubjectClaim) -> bool:
    if first.until is None or second.since is None:
        return False
    return in_utc(first.until) <= in_utc(second.since)


CUSTOMERS = Record(
    Customer,
    need("name", NAME),
    need("subjects", listed(Codec(_read_claim, _write_claim), most=SUBJECTS_MAX)),
    may("parent", CUSTOMER),
    may("entity", TEXT),
    may("tax", CUSTOMER_TAX.codec),
    may("external_ids", LABELS),
    may("metadata", LABELS),
    check=_check_customer,
)
