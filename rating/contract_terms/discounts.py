"""A contract's discounts: percent or amount off a document, one line a discount."""

from __future__ import annotations

from fractions import Fraction

from catalog.contracts import Discount
from catalog.snapshot import resolve
from rating.contract_terms.account import (
    Account,
    Document,
    NamedTerm,
    TermStep,
    take,
    take_evenly,
)
from rating.contract_terms.agreement import Agreement
from rating.frames import LineKind
from rating.timeline import Agreed

Pool = tuple[int, int, Discount]


def act(account: Account, agreement: Agreement) -> None:
    """Every discount in force when a document falls due, in the order written.

    Each acts on what those before it left. An amount is off each billing period of the contract:
    the documents that fall due in it share it, in that order.
    """
    used: dict[Pool, int] = {}
    for document in account.documents:
        agreed = agreement.at(document.due)
        for index, discount in enumerate(agreed.contract.discounts if agreed else ()):
            assert agreed is not None
            if not _in_force(discount, document.due, agreement):
                continue
            if discount.percent is not None:
                taken, steps = _percent(account, document, discount)
            else:
                pool = (index, agreement.pool(document.due, agreed), discount)
                taken, steps = _amount(account, document, discount, used.get(pool, 0))
                used[pool] = used.get(pool, 0) + taken
            account.taken(_named(index, discount, agreed), document, taken, steps)


def _in_force(discount: Discount, instant: int, agreement: Agreement) -> bool:
    zone = agreement.term.timezone
    begun = discount.since is None or resolve(discount.since, zone) <= instant
    return begun and (discount.until is None or instant < resolve(discount.until, zone))


def _percent(
    account: Account, document: Document, discount: Discount
) -> tuple[int, tuple[TermStep, ...]]:
    assert discount.percent is not None
    items = account.under(document, discount.products)
    factor = Fraction(discount.percent) / 100
    before = account.major(sum(item.left for item in items))
    taken = take(items, [item.left * factor for item in items])
    step = TermStep(name="percent", before=before, stated=-factor, after=-before * factor)
    return taken, (step,)


def _amount(
    account: Account, document: Document, discount: Discount, used: int
) -> tuple[int, tuple[TermStep, ...]]:
    assert discount.amount is not None
    items = account.under(document, discount.products)
    before = account.major(sum(item.left for item in items))
    room = max(Fraction(0), Fraction(discount.amount) - account.major(used))
    exact = max(Fraction(0), min(before, room))
    taken = take_evenly(items, account.minor(exact))
    return taken, (TermStep(name="amount", before=before, stated=room, after=-exact),)


def _named(index: int, discount: Discount, agreed: Agreed) -> NamedTerm:
    return NamedTerm(
        kind=LineKind.DISCOUNT,
        slot=f"discounts#{index + 1}",
        stated=discount,
        revision=agreed.revision,
        products=discount.products,
    )
