"""Quotes as a service: what proposed terms would bill, for usage that is given or was had."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from api.models.whatif import HistoryItem, QuoteRequest, read_period, wrong
from api.quoted_contract import alone
from api.quoted_usage import lines_of_usage
from api.totals import Catalogs, Freshness, Settled
from catalog.changes import Unsupported
from catalog.clock import Micros, to_micros, to_rfc3339
from catalog.errors import InvalidRequest
from catalog.ids import ContractId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from rating.pipeline import Rated, rate
from rating.plan import specs_needed
from rating.ports import FactSource
from rating.quoting import first_instant, quoted_term


class MixedCurrencies(InvalidRequest):
    """The proposed terms bill in more than one currency: there is no one total."""

    code = "mixed_currencies"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """The lines of a quote, in which currency, and the instant it is as of."""

    rated: Rated
    currency: str
    settled: Settled


class Quotes:
    """Rates one contract that need not exist. Changes nothing."""

    def __init__(
        self,
        *,
        catalogs: Catalogs,
        source: FactSource,
        freshness: Freshness,
        unsupported: Unsupported,
    ) -> None:
        self._catalogs = catalogs
        self._source = source
        self._freshness = freshness
        self._unsupported = unsupported

    async def run(self, asked: QuoteRequest) -> Quoted:
        """Preview the invoices.

        Raises:
            InvalidDocument: the contract does not fit the catalog; pointers begin ``/contract``.
            InvalidRequest: a field of the request is wrong; see its pointer.
            NotQuotable: quantities alone do not say what a price asks.
            NotCovered: no tier or row covers a quantity.
        """
        if (asked.usage is None) == (asked.history is None):
            detail = "a quote takes either 'usage' or 'history'"
            pointer = "" if asked.usage is None else "/history"
            raise wrong(pointer, detail)
        as_of = None if asked.as_of is None else to_micros(asked.as_of)
        current = await asyncio.to_thread(self._catalogs.current)
        specs = () if asked.history is None else specs_needed(current)
        settled = await self._freshness.settle(as_of, specs)
        return await asyncio.to_thread(self._quoted, asked, settled)

    def _quoted(self, asked: QuoteRequest, settled: Settled) -> Quoted:
        live = self._catalogs.as_of(settled.as_of)
        catalog, contract = alone(live, asked, self._unsupported, settled.as_of)
        if asked.history is not None:
            rated = self._of_history(catalog, contract, asked.history, settled.as_of)
        else:
            rated = lines_of_usage(catalog, contract, asked.usage or [])
        return Quoted(rated=rated, currency=_currency(catalog, contract, rated), settled=settled)

    def _of_history(
        self, catalog: Catalog, contract: ContractId, history: HistoryItem, as_of: Micros
    ) -> Rated:
        period = read_period(history.period, "/history/period")
        _require_in_force(catalog, contract, period, "/history/period")
        return rate(catalog, period=period, source=self._source, as_of=as_of)


def _require_in_force(
    catalog: Catalog, contract: ContractId, period: PeriodSpec, pointer: str
) -> None:
    term = quoted_term(catalog, contract)
    if first_instant(term, period) is None:
        until = "" if term.end is None else f" to {to_rfc3339(term.end)}"
        raise wrong(
            pointer,
            f"the contract is in force from {to_rfc3339(term.start)}{until}, not in {period.text}; "
            "to preview it on an earlier period, start it there",
        )


def _currency(catalog: Catalog, contract: ContractId, rated: Rated) -> str:
    """The one currency of the lines; of a contract that bills nothing, the one it would be in."""
    found = sorted(rated.lines["currency"].unique().to_list())
    if len(found) > 1:
        raise MixedCurrencies(f"the contract bills in {' and '.join(found)}: quote them apart")
    if found:
        return str(found[0])
    terms = catalog.contracts[contract].last
    book = None if terms.pricebook is None else catalog.pricebooks.get(terms.pricebook)
    return terms.currency or (book.last.currency if book else "USD")
