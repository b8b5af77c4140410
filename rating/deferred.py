"""Fees that an amendment leaves unbilled for a while: what ``apply`` warns of.

A fee in advance that is not prorated is due at the start of its billing periods, which count from
the contract's start. Where an amendment makes a monthly fee a yearly one, the year it begins in
has begun under other terms: nothing is due until the next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from catalog.clock import Micros, to_datetime
from catalog.ids import ContractId
from catalog.periods import FOREVER, Period, billing_periods
from catalog.pricebooks import Prorate, Timing
from catalog.snapshot import Catalog
from rating.frames import LineKind
from rating.plan import terms_of
from rating.timeline import Stretch, Term, Timelines


def fees_deferred(catalog: Catalog, contracts: Collection[ContractId]) -> Iterator[str]:
    """One warning per fee of ``contracts`` that follows another and is billed only later."""
    timelines = Timelines(catalog)
    for term in terms_of(catalog, contracts=contracts):
        if not term.contract.amendments:
            continue
        last = FOREVER if term.end is None else term.end
        slots = timelines.slots(term, since=term.start, until=last)
        fees = [each for held in slots.values() for each in held if _is_fee(each)]
        for fee in fees:
            gap = _gap(term, fee, fees)
            if gap is not None:
                yield _told(term, fee, gap)


def _is_fee(stretch: Stretch) -> bool:
    return stretch.terms.kind is LineKind.FIXED


def _gap(term: Term, fee: Stretch, fees: Collection[Stretch]) -> tuple[Micros, Micros] | None:
    """From when to when nothing is billed for a fee that replaces others; null for never."""
    terms = fee.terms
    if terms.invoicing.timing is not Timing.ADVANCE or terms.prorate is not Prorate.NO:
        return None
    before = [s for s in fees if s.end == fee.start and s.terms.product == terms.product]
    period = _period_at(term, fee, fee.start)
    if not before or period is None or period.start == fee.start:
        return None
    paid = [_period_at(term, each, Micros(fee.start - 1)) for each in before]
    until = max(fee.start, *(each.end for each in paid if each is not None))
    end = min(period.end, fee.end)
    return (until, end) if until < end else None


def _period_at(term: Term, fee: Stretch, instant: Micros) -> Period | None:
    """The fee's billing period that holds ``instant``."""
    found = billing_periods(
        start=term.start,
        end=term.end,
        invoicing=fee.terms.invoicing,
        timezone=term.timezone,
        since=instant,
        until=Micros(instant + 1),
    )
    return found[0] if found else None


def _told(term: Term, fee: Stretch, gap: tuple[Micros, Micros]) -> str:
    since, until = (to_datetime(at).astimezone(term.timezone).date() for at in gap)
    return (
        f"contract '{term.contract.id}': nothing is billed for {fee.terms.product} from {since} "
        f"to {until}: the fee in advance that replaces another is due at the start of its billing "
        "periods, which count from the contract's start; prorate it, or begin a new contract"
    )
