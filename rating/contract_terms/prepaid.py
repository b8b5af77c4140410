"""Credits: money paid before, burned by what falls due, one line a document and credit."""

from __future__ import annotations

from fractions import Fraction

from catalog.contracts import Credit
from catalog.periods import FOREVER
from catalog.snapshot import resolve
from rating.contract_terms.account import (
    Account,
    Document,
    NamedTerm,
    TermStep,
    take_evenly,
)
from rating.contract_terms.agreement import Agreement
from rating.frames import LineKind
from rating.timeline import Agreed


def act(account: Account, agreement: Agreement) -> None:
    """Burn credits document by document as they fall due; what is left is there for the next.

    Of the credits in force: by priority (lowest first), then expiry, then age, then as written.
    """
    burned: dict[str, int] = {}
    for document in account.documents:
        agreed = agreement.at(document.due)
        if agreed is None:
            continue
        for credit in _in_order(agreed.contract.credits, document, agreement):
            _burn(account, document, (credit, agreed), burned)


def _burn(
    account: Account, document: Document, held: tuple[Credit, Agreed], burned: dict[str, int]
) -> None:
    """Take what the credit still has off the document, never below zero."""
    credit, agreed = held
    items = account.under(document, credit.products)
    whole = sum(item.left for item in account.items[document])
    open_ = account.major(max(0, min(whole, sum(item.left for item in items))))
    balance = max(Fraction(0), Fraction(credit.amount) - account.major(burned.get(credit.id, 0)))
    exact = min(open_, balance)
    taken = take_evenly(items, Fraction(account.minor(exact) // 1))
    burned[credit.id] = burned.get(credit.id, 0) + taken
    account.taken(
        NamedTerm(
            kind=LineKind.CREDIT,
            slot=f"credits:{credit.id}",
            stated=credit,
            revision=agreed.revision,
            products=credit.products,
        ),
        document,
        taken,
        (TermStep(name="credit", before=open_, stated=balance, after=account.major(-taken)),),
    )


def _in_order(
    credits_: tuple[Credit, ...], document: Document, agreement: Agreement
) -> list[Credit]:
    zone = agreement.term.timezone
    found = []
    for credit in credits_:
        since = None if credit.effective_at is None else resolve(credit.effective_at, zone)
        until = FOREVER if credit.expires_at is None else resolve(credit.expires_at, zone)
        age = agreement.term.start if since is None else since
        if (since is None or since <= document.due) and document.due < until:
            found.append(((credit.priority, until, age), credit))
    return [credit for _, credit in sorted(found, key=lambda pair: pair[0])]
