"""The trial: what lies in it is taken off again, on one line a document."""

from __future__ import annotations

from fractions import Fraction
from zoneinfo import ZoneInfo

from catalog.clock import Micros
from catalog.periods import local_date
from rating.contract_terms.account import Account, Item, NamedTerm, TermStep, take
from rating.contract_terms.agreement import Agreement
from rating.frames import LineKind

SLOT = "trial"


def act(account: Account, agreement: Agreement) -> None:
    """Take the free share off every item that has one."""
    for document in account.documents:
        items = [item for item in account.items[document] if item.free]
        if not items:
            continue
        parts = [item.left * item.free for item in items]
        steps = _steps(account, items)
        account.taken(_named(agreement), document, take(items, parts), steps)


def _steps(account: Account, items: list[Item]) -> tuple[TermStep, ...]:
    """One a free share; where there are several, what they add up to."""
    steps = []
    for free in sorted({item.free for item in items}):
        before = account.major(sum(item.left for item in items if item.free == free))
        steps.append(TermStep(name="trial", before=before, stated=-free, after=-before * free))
    if len(steps) > 1:
        whole = sum((step.after for step in steps), Fraction(0))
        steps.append(TermStep(name="sum", before=steps[-1].after, stated=None, after=whole))
    return tuple(steps)


def _named(agreement: Agreement) -> NamedTerm:
    revision = agreement.term.chain.versions[-1].revision
    stated = agreement.term.contract.trial
    return NamedTerm(kind=LineKind.DISCOUNT, slot=SLOT, stated=stated, revision=revision)


def free_share(start: Micros, end: Micros, *, trial_end: Micros | None, zone: ZoneInfo) -> Fraction:
    """The share of ``[start, end)`` before ``trial_end``, in local days; in time within a day."""
    if trial_end is None or trial_end <= start:
        return Fraction(0)
    if trial_end >= end:
        return Fraction(1)
    days = (local_date(end, zone) - local_date(start, zone)).days
    if days == 0:
        return Fraction(trial_end - start, end - start)
    return Fraction((local_date(trial_end, zone) - local_date(start, zone)).days, days)
