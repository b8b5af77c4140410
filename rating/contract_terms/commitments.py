"""Commitments: spend beyond what was promised is multiplied, what is short of it is billed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from catalog.clock import Micros
from catalog.contracts import Commitment, Contract
from rating.contract_terms.account import (
    Account,
    Document,
    NamedTerm,
    TermLine,
    TermStep,
    rounded,
)
from rating.contract_terms.agreement import Agreement, Promise
from rating.contract_terms.windows import billed_with, promises
from rating.frames import LineKind

ZERO = Fraction(0)
Made = tuple[TermLine, Micros]
"""A line, and the instant it counts at as spend for the contract's minimum."""


def act(account: Account, agreement: Agreement) -> None:
    """Every commitment, on what prices billed less discounts; they do not see each other."""
    for line, at in list(_lines(account, agreement)):
        account.add(line, at=at)


def _lines(account: Account, agreement: Agreement) -> Iterator[Made]:
    held = [state.agreed.contract.commitments for state in agreement.states]
    cadences = {(index, c.every_months) for stated in held for index, c in enumerate(stated)}
    for index, every in sorted(cadences, key=lambda cadence: (cadence[0], cadence[1] or 0)):
        for promise in promises(account, agreement, every, _picked(index, every)):
            yield from _overage(account, index, promise)
            document = billed_with(account, agreement, promise)
            if promise.stated.true_up and document is not None:
                yield _true_up(account, index, promise, document)


def _picked(index: int, every: int | None) -> Callable[[Contract], Commitment | None]:
    def pick(contract: Contract) -> Commitment | None:
        stated = contract.commitments[index : index + 1]
        return next((c for c in stated if c.every_months == every), None)

    return pick


def _named(index: int, promise: Promise[Commitment], *, what: str = "") -> NamedTerm:
    return NamedTerm(
        kind=LineKind.COMMITMENT,
        slot=f"commitments#{index + 1}{what}",
        stated=promise.stated,
        revision=promise.agreed.revision,
        products=promise.stated.products,
    )


def _overage(account: Account, index: int, promise: Promise[Commitment]) -> Iterator[Made]:
    """On each document, what it brings beyond the commitment, times the multiplier less one."""
    multiplier, products = promise.stated.overage_multiplier, promise.stated.products
    if multiplier is None:
        return
    promised, spent, before = Fraction(promise.stated.amount) * promise.share, 0, ZERO
    for document, billed in account.spent(promise.since, promise.end, products):
        spent += billed
        over = max(ZERO, account.major(spent) - promised)
        beyond, surcharge = over - before, Fraction(multiplier) - 1
        steps = (
            TermStep(name="spend", before=ZERO, stated=None, after=account.major(spent)),
            TermStep(name="beyond", before=account.major(spent), stated=promised, after=over),
            TermStep(name="earlier", before=over, stated=before, after=beyond),
            TermStep(name="multiply", before=beyond, stated=surcharge, after=beyond * surcharge),
        )
        before = over
        if document.due < promise.start:
            continue
        line = TermLine(
            term=_named(index, promise, what=":overage"),
            document=document,
            start=document.start,
            end=document.end,
            steps=steps,
            amount=rounded(account.minor(beyond * surcharge)),
        )
        yield line, document.due


def _true_up(
    account: Account, index: int, promise: Promise[Commitment], document: Document
) -> Made:
    """What the spend of the window is short of the commitment."""
    promised = Fraction(promise.stated.amount) * promise.share
    billed = account.spent(promise.since, promise.end, promise.stated.products)
    spent = account.major(sum(amount for _, amount in billed))
    short = max(ZERO, promised - spent)
    line = TermLine(
        term=_named(index, promise),
        document=document,
        start=promise.since,
        end=promise.end,
        steps=(
            TermStep(name="spend", before=ZERO, stated=None, after=spent),
            TermStep(name="short", before=spent, stated=promised, after=short),
        ),
        amount=rounded(account.minor(short)),
    )
    return line, Micros(promise.end - 1)
