"""The line of a contract as a whole that has an id: its period is settled once more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from catalog.clock import Micros
from catalog.errors import NotFound
from catalog.ids import ContractId
from catalog.periods import FOREVER, PeriodSpec, local_date
from catalog.pricebooks import Timing
from catalog.snapshot import Catalog, midnight
from rating.contract_terms.agreement import Agreement, Agreements
from rating.contract_terms.lines import Settled, settled_lines
from rating.contract_terms.recall import Recalling
from rating.plan import Started, plan_lines, terms_of
from rating.ports import FactSource
from rating.pricing import price_usage
from rating.quantities import measure

_UTC = ZoneInfo("UTC")
_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A line by its id, and what the id says: the contract, and the UTC day it is billed from."""

    line_id: str
    day: date
    contract: ContractId
    as_of: Micros


def settled_line(asked: Asked, catalog: Catalog, source: FactSource) -> Settled:
    """The line asked for.

    Raises:
        NotFound: no term of the contract makes it.
    """
    agreements = Agreements(catalog)
    for term in terms_of(catalog, contracts=[asked.contract]):
        agreement = agreements.of(term)
        dates = set() if agreement is None else set(_dates(asked, catalog, agreement))
        for day in sorted(dates):
            spec = PeriodSpec(text=day.isoformat(), first=day, until=day + timedelta(days=1))
            recalling = Recalling(spec, asked.as_of, agreements)
            plans = plan_lines(catalog, recalling, contracts=[asked.contract])
            priced = price_usage(plans, measure(plans, catalog, source, as_of=asked.as_of))
            reached = recalling.reach(term)
            for settled in settled_lines([reached] if reached else [], plans, priced):
                if settled.id == asked.line_id:
                    return settled
    raise NotFound(f"no line {asked.line_id!r}")


def _dates(asked: Asked, catalog: Catalog, agreement: Agreement) -> Iterator[date]:
    """The accounting dates of all documents that may begin on the day."""
    start = midnight(asked.day, _UTC)
    for plan in plan_lines(catalog, Started(start), contracts=[asked.contract]):
        yield plan.accounting
    for end in _ends(agreement, start, start + _DAY):
        if end < FOREVER:
            yield local_date(end - 1, agreement.term.timezone)


def _ends(agreement: Agreement, since: int, until: int) -> Iterator[Micros]:
    """When documents that bill a shortfall end: billing periods in arrears, or whole windows."""
    held = [state.agreed for state in agreement.states]
    for agreed in held:
        if agreed.invoicing.timing is Timing.ARREARS:
            found = agreement.periods(agreed.invoicing, since=since, until=until)
            yield from (period.end for period in found)
    contracts = [agreed.contract for agreed in held]
    every = {c.every_months for contract in contracts for c in contract.commitments}
    every |= {contract.minimum.every_months for contract in contracts if contract.minimum}
    for months in every:
        for window in agreement.windows(months, since=since, until=until):
            yield window.end
            yield from (state.end for state in agreement.states if state.end < window.end)
