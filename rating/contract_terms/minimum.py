"""The contract's minimum: what is short of it is billed where its window ends."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from catalog.clock import Micros
from catalog.contracts import Contract, Minimum
from rating.contract_terms.account import (
    Account,
    Document,
    NamedTerm,
    TermLine,
    TermStep,
    rounded,
)
from rating.contract_terms.agreement import Agreement, Promise
from rating.contract_terms.trial import free_share
from rating.contract_terms.windows import billed_with, promises
from rating.frames import LineKind

ZERO = Fraction(0)
SLOT = "minimum"


def act(account: Account, agreement: Agreement) -> None:
    """Compare each window's lines, commitments among them, with the minimum; a trial is free."""
    held = (state.agreed.contract.minimum for state in agreement.states)
    made = []
    for every in sorted({minimum.every_months for minimum in held if minimum is not None}):
        for promise in promises(account, agreement, every, _picked(every)):
            document = billed_with(account, agreement, promise)
            if document is not None:
                made.append(_shortfall(account, agreement, promise, document))
    for line in made:
        account.add(line, at=Micros(line.end - 1))


def _picked(every: int) -> Callable[[Contract], Minimum | None]:
    def pick(contract: Contract) -> Minimum | None:
        minimum = contract.minimum
        return minimum if minimum is not None and minimum.every_months == every else None

    return pick


def _shortfall(
    account: Account, agreement: Agreement, promise: Promise[Minimum], document: Document
) -> TermLine:
    term, since, end = agreement.term, promise.since, promise.end
    free = free_share(since, end, trial_end=term.trial_end, zone=term.timezone)
    promised = Fraction(promise.stated.amount) * promise.share * (1 - free)
    items = (item for items in account.items.values() for item in items)
    spent = account.major(sum(item.left for item in items if since <= item.at < end))
    short = max(ZERO, promised - spent)
    return TermLine(
        term=NamedTerm(
            kind=LineKind.MINIMUM,
            slot=SLOT,
            stated=promise.stated,
            revision=promise.agreed.revision,
        ),
        document=document,
        start=since,
        end=end,
        steps=(
            TermStep(name="spend", before=ZERO, stated=None, after=spent),
            TermStep(name="short", before=spent, stated=promised, after=short),
        ),
        amount=rounded(account.minor(short)),
    )
