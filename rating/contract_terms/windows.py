"""The windows that commitments and minimum count in, and the document each is billed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.periods import FOREVER, local_date
from catalog.pricebooks import Timing
from catalog.snapshot import midnight
from rating.contract_terms.account import Account, Document
from rating.contract_terms.agreement import Agreement, Promise

P = TypeVar("P")


def promises(
    account: Account,
    agreement: Agreement,
    every_months: int | None,
    pick: Callable[[Contract], P | None],
) -> Iterator[Promise[P]]:
    """How the term that ``pick`` names stands over every window that may still fall due."""
    reach = account.reach
    until = max(midnight(reach.until, agreement.term.timezone), reach.since + 1)
    for window in agreement.windows(every_months, since=reach.since, until=until):
        yield from agreement.promises(pick, window)


def billed_with(account: Account, agreement: Agreement, promise: Promise[Any]) -> Document | None:
    """The document that a promise's shortfall is billed with; null where that is not wanted yet.

    The billing period in arrears of the contract's own invoicing that holds the window's last
    instant, else the window itself.
    """
    if not promise.due or promise.end >= FOREVER:
        return None
    period = agreement.billed(promise.end - 1)
    start, end = (promise.since, promise.end) if period is None else (period.start, period.end)
    document = Document(
        due=Micros(end - 1),
        timing=Timing.ARREARS.value,
        start=start,
        end=end,
        accounting=local_date(end - 1, agreement.term.timezone),
    )
    return document if account.reach.wants(document) else None
