"""From rated lines to the lines of the contracts as a whole, in the form of LINES."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl

from catalog.clock import Micros, to_datetime
from catalog.errors import OutOfRange
from catalog.events import EMPTY_DIMENSIONS
from catalog.ids import ContractId
from catalog.money import AMOUNT_LIMIT, from_units, minor_units
from catalog.periods import FOREVER
from catalog.pricebooks import Timing
from rating.contract_terms.account import Account, Document, Item, Reach, TermLine
from rating.contract_terms.agreement import Agreement
from rating.contract_terms.order import settle
from rating.contract_terms.trial import free_share
from rating.frames import BILLING, LINES, LineKind, LineStatus
from rating.plan import LinePlan, line_id
from rating.planned import planned
from rating.terms import version_of
from rating.timeline import InconsistentCatalog, Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A line of a contract as a whole, with whose it is."""

    term: Term
    currency: str
    line: TermLine

    @property
    def id(self) -> str:
        """The term's place in the contract, its document and what it covers, not its amount."""
        document, named = self.line.document, self.line.term
        late = "late" if document.due > document.start else "early"  # billed once is both
        billed = f"{late} {document.end}"  # cadences may share a beginning
        what = (named.slot, document.timing, document.start, self.line.start, billed)
        return line_id(self.term.contract.id, *what)

    @property
    def version(self) -> str:
        """A digest of what the contract says."""
        return version_of(self.line.term.stated)

    @property
    def product(self) -> str | None:
        """The one product that the term is limited to; null for several, or the whole contract."""
        products = self.line.term.products
        return products[0] if products is not None and len(products) == 1 else None

    @property
    def amount(self) -> Decimal:
        """With the currency's minor digits.

        Raises:
            OutOfRange: the amount is not below 10^17.
        """
        decimals = minor_units(self.currency)
        if abs(self.line.amount) >= AMOUNT_LIMIT * 10**decimals:
            raise OutOfRange(f"contract {self.term.contract.id}: an amount must be below 10^17")
        return from_units(self.line.amount, decimals)


def settled_lines(
    agreed: Sequence[tuple[Agreement, Reach]], plans: Sequence[LinePlan], priced: pl.DataFrame
) -> Iterator[Settled]:
    """The lines of every agreement, over all that it reaches.

    Args:
        agreed: contracts with terms as a whole, and how far each is settled.
        plans: of any contracts.
        priced: their USAGE with rounded ``amount``.
    """
    if not agreed:
        return
    held = {agreement.term.contract.id for agreement, _ in agreed}
    columns = planned(plans)
    mine = np.array([owner.contract in held for owner in columns.owners], dtype=np.bool_)
    own = priced.filter(pl.Series(mine[columns.owner][priced["line"]]))
    sums = own.group_by("line").agg(pl.col("amount").sum())
    amounts: dict[int, Decimal] = dict(sums.iter_rows())
    billed: dict[ContractId, list[tuple[LinePlan, Decimal]]] = {}
    for index, amount in sorted(amounts.items()):
        plan = columns[index]
        billed.setdefault(plan.contract, []).append((plan, amount))
    for agreement, reach in agreed:
        account = Account(currency=_currency(agreement), reach=reach)
        for plan, amount in billed.get(agreement.term.contract.id, []):
            _enter(account, agreement, plan, amount)
        for items in account.items.values():
            items.sort(key=lambda item: (item.products or (), item.kind, item.free))
        for line in settle(account, agreement):
            yield Settled(term=agreement.term, currency=account.currency, line=line)


def _currency(agreement: Agreement) -> str:
    currencies = {state.agreed.currency for state in agreement.states}
    if len(currencies) > 1:
        raise InconsistentCatalog(f"contract {agreement.term.contract.id} mixes currencies")
    return next(iter(currencies), "USD")


def _enter(account: Account, agreement: Agreement, plan: LinePlan, amount: Decimal) -> None:
    """Add what a line came to (of all its groups) to the items of its document."""
    document = _document(plan)
    free = _free(plan, agreement.term)
    product, kind = (plan.terms.product,), plan.terms.kind
    items = account.items.setdefault(document, [])
    minor = int(account.minor(amount))
    for item in items:
        if (item.products, item.kind, item.free) == (product, kind, free):
            item.left += minor
            return
    items.append(Item(kind=kind, products=product, at=document.due, left=minor, free=free))


def _document(plan: LinePlan) -> Document:
    timing, period = plan.terms.invoicing.timing, plan.period
    usage = plan.terms.kind is LineKind.USAGE
    late = timing is Timing.ARREARS or (timing is Timing.ONCE and usage)
    return Document(
        due=Micros(period.end - 1) if late else period.start,
        timing=timing.value,
        start=period.start,
        end=period.end,
        accounting=plan.accounting,
    )


def _free(plan: LinePlan, term: Term) -> Fraction:
    """The share of a line in the trial: usage is split there, a fee billed once is not for time."""
    if plan.terms.kind is LineKind.USAGE:
        return Fraction(plan.terms.trial)
    if plan.terms.invoicing.timing is Timing.ONCE:
        return Fraction(0)
    return free_share(plan.start, plan.end, trial_end=term.trial_end, zone=term.timezone)


def shown_terms(settled: Sequence[Settled]) -> pl.DataFrame:
    """LINES and BILLING columns, one row a line; quantity 1, or 0 where nothing is billed."""
    schema = pl.Schema({**LINES, **BILLING})
    return pl.DataFrame(list(map(_row, settled)), schema=schema, orient="row")


def _row(settled: Settled) -> dict[str, object]:
    line, document, id_ = settled.line, settled.line.document, settled.id
    return {
        "line_id": id_,
        "customer": settled.term.contract.customer,
        "contract": settled.term.contract.id,
        "product": settled.product,
        "meter": None,
        "dimensions": EMPTY_DIMENSIONS,
        "timing": document.timing,
        "period_start": _moment(line.start),
        "period_end": _moment(line.end),
        "currency": settled.currency,
        "quantity": Decimal(int(line.amount != 0)),
        "amount": settled.amount,
        "kind": line.term.kind.value,
        "status": LineStatus.OPEN.value,
        "adjusts": None,
        "cause": None,
        "event_count": 0,
        "price_version": settled.version,
        "billing_start": _moment(document.start),
        "billing_end": _moment(document.end),
        "accounting_date": document.accounting,
    }


def _moment(instant: int) -> datetime | None:
    return None if instant >= FOREVER else to_datetime(instant)
