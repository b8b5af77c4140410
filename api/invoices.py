"""Invoices as they are read: drafts are views over the books, issued ones are what was written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from api.bookkeeping import Desk
from api.invoice_list import (
    Document,
    InvoiceList,
    PreparedDrafts,
    as_issued,
    credits_in,
    draft_ids,
    drafts_told,
    in_order,
    timing_of,
)
from api.totals import Settled
from catalog.clock import EVER, Micros, to_micros
from catalog.errors import NotFound
from catalog.families import family_of
from catalog.ids import ContractId, CustomerId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.documents import Grouping, named_in_document
from invoicing.drafts import InvoiceStatus
from invoicing.placement import latest_day
from invoicing.ports import DocumentKind
from invoicing.preparing import Drafts, drafts_of
from invoicing.tax import TaxEngine
from invoicing.view import BEGINNING, FAR_AHEAD, Scope
from rating.frames import LINES
from rating.kept import Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which documents: those that count in ``period``. Null means all."""

    period: PeriodSpec
    customer: CustomerId | None = None
    contract: ContractId | None = None
    status: InvoiceStatus | None = None
    timing: str | None = None
    kind: DocumentKind = DocumentKind.INVOICE
    as_of: Micros | None = None


LISTED_ROWS_MAX = 300_000
"""So many rows of lists are remembered for their next pages (at least one list)."""


class Invoices:
    """The documents of one deployment, read. Everything blocking runs in threads."""

    def __init__(self, desk: Desk, *, grouping: Grouping, tax: TaxEngine) -> None:
        self._desk = desk
        self._grouping = grouping
        self._tax = tax
        self._lists: Kept[Wanted, InvoiceList] = Kept(LISTED_ROWS_MAX, at_least=1)

    async def listed(self, wanted: Wanted) -> InvoiceList:
        """Documents by customer, contract, timing and period.

        What was recorded by an instant never changes, so the pages of a list are made of one.
        """
        settled = await self._desk.question(wanted.as_of)
        key = replace(wanted, as_of=settled.as_of)
        held = self._lists.get(key)
        if held is None:
            held = await self._listed(wanted, settled)
            self._lists.put(key, held, size=held.size)
        return held

    async def _listed(self, wanted: Wanted, settled: Settled) -> InvoiceList:
        catalog = await asyncio.to_thread(self._desk.catalogs.as_of, settled.as_of)
        _require_known(wanted, catalog)
        drafted = wanted.kind is DocumentKind.INVOICE
        prepared = None
        if wanted.status in {None, InvoiceStatus.DRAFT} and drafted:
            prepared = await self.drafts(wanted, settled)
        return await asyncio.to_thread(self._list, wanted, prepared, settled.as_of, catalog)

    async def invoice(self, id_: str) -> Document:
        """One document, draft or not, with its lines.

        Raises:
            NotFound: there is none of that id.
        """
        found = await asyncio.to_thread(self.find, id_)
        if found is not None:
            return (await asyncio.to_thread(self.with_lines, found))[0]
        settled = await self._desk.question()
        drafts = await self.drafts_near(id_, settled)
        found = await asyncio.to_thread(self._draft, drafts, id_, settled.as_of)
        if found is None:
            raise NotFound(f"no invoice {id_[:200]!r}")
        return found

    def find(self, id_: str) -> Document | None:
        """An issued document by its id, without its lines; null where none was issued."""
        books = self._desk.books
        rows = books.documents(as_of=EVER, ids=[id_])
        if rows.is_empty():
            return None
        row = rows.row(0, named=True)
        same = books.documents(as_of=EVER, documents=[row["document"]])
        return as_issued(row, credits_in(same))

    def with_lines(self, *documents: Document) -> list[Document]:
        """The same with their lines (LINES); a credit note's are negated."""
        missing = [each.document for each in documents if each.lines is None]
        if not missing:
            return list(documents)
        found = self._desk.books.lines_of(*missing).select(*LINES, "document")
        parts = found.group_by("document", maintain_order=True)
        kept = {str(name): part for (name,), part in parts}
        return [
            each if each.lines is not None else _lined(each, kept.get(each.document, found.clear()))
            for each in documents
        ]

    async def catalog_of(self, document: Document) -> Catalog:
        """The catalog that a document was made with; of a draft, that of now."""
        as_of = document.head.get("as_of")
        if as_of is None:
            return await asyncio.to_thread(self._desk.catalogs.current)
        instant = to_micros(datetime.fromisoformat(as_of))
        return await asyncio.to_thread(self._desk.catalogs.as_of, instant)

    async def current(self, customer: CustomerId) -> tuple[pl.DataFrame, Settled]:
        """STANDING of a customer and those below it that are on no invoice, whenever they count.

        Raises:
            NotFound: there is no such customer.
        """
        settled = await self._desk.question()
        catalog = await asyncio.to_thread(self._desk.catalogs.as_of, settled.as_of)
        if customer not in catalog.customers:
            raise NotFound(f"no customer {customer!r}")
        until = latest_day(catalog, settled.as_of) + FAR_AHEAD
        span = PeriodSpec(text="", first=BEGINNING, until=until)
        family = family_of(catalog, customer)
        view, _ = await self._desk.look(Scope(period=span, as_of=settled.as_of, customers=family))
        return view.lines.filter(pl.col("invoice").is_null()), settled

    async def drafts(self, wanted: Wanted, settled: Settled) -> PreparedDrafts:
        """What is on no invoice, as the invoices it would be."""
        catalog = await asyncio.to_thread(self._desk.catalogs.as_of, settled.as_of)
        customers, contracts = self._whose(wanted, catalog)
        scope = Scope(
            period=wanted.period, as_of=settled.as_of, customers=customers, contracts=contracts
        )
        view, _ = await self._desk.look(scope)
        made = await asyncio.to_thread(drafts_of, view.lines, tax=self._tax, catalog=catalog)
        return PreparedDrafts(drafts=_narrowed(made, wanted), catalog=catalog)

    async def drafts_near(self, id_: str, settled: Settled) -> PreparedDrafts:
        """The drafts among which the one with this id is, if it is.

        Raises:
            NotFound: the id names no contract or customer.
        """
        owner, day = named_in_document(id_)
        catalog = await asyncio.to_thread(self._desk.catalogs.as_of, settled.as_of)
        single = self._grouping is Grouping.CONTRACT
        if owner not in (catalog.contracts if single else catalog.customers):
            raise NotFound(f"no invoice {id_[:200]!r}")
        wanted = Wanted(
            period=PeriodSpec.parse(day.isoformat()),
            contract=ContractId(owner) if single else None,
            customer=None if single else CustomerId(owner),
        )
        return await self.drafts(wanted, settled)

    def issues(self, heads: pl.DataFrame, as_of: Micros = EVER) -> Counter[str]:
        """How often each document of DRAFTS was issued before."""
        if heads.is_empty():
            return Counter()
        days = heads["accounting_date"]
        first, last = days.min(), days.max()
        assert isinstance(first, date)
        assert isinstance(last, date)
        rows = self._desk.books.documents(
            as_of=as_of,
            since=first,
            until=last + timedelta(days=1),
            documents=heads["document"].to_list(),
        )
        return Counter(rows.filter(pl.col("kind") == DocumentKind.INVOICE.value)["document"])

    def _list(
        self, wanted: Wanted, prepared: PreparedDrafts | None, as_of: Micros, catalog: Catalog
    ) -> InvoiceList:
        since, until = wanted.period.first, wanted.period.until
        rows = self._desk.books.documents(as_of=as_of, since=since, until=until)
        credits_ = credits_in(rows)
        issued = rows.filter(
            pl.col("kind") == wanted.kind.value,
            self._theirs(wanted, catalog),
            _of_status(wanted, credits_),
            _timed(wanted),
        )
        issues = Counter[str]() if prepared is None else self.issues(prepared.drafts.heads, as_of)
        return in_order(issued, credits_, prepared, issues, as_of)

    def _draft(self, prepared: PreparedDrafts, id_: str, as_of: Micros) -> Document | None:
        """The draft with this id, with its lines; null where there is none."""
        heads = prepared.drafts.heads
        ids = draft_ids(heads, self.issues(heads, as_of))
        mine = heads.filter(ids == id_)["document"].to_list()
        return drafts_told(prepared, {mine[0]: id_})[0] if mine else None

    def _whose(
        self, wanted: Wanted, catalog: Catalog
    ) -> tuple[Collection[CustomerId] | None, Collection[ContractId] | None]:
        """The customers and contracts whose lines make whole documents of what is wanted."""
        if wanted.contract is not None and self._grouping is Grouping.CONTRACT:
            return None, [wanted.contract]
        if wanted.contract is not None:
            return family_of(catalog, self._payer(wanted.contract, catalog)), None
        if wanted.customer is not None:
            return family_of(catalog, wanted.customer), None
        return None, None

    def _theirs(self, wanted: Wanted, catalog: Catalog) -> pl.Expr:
        """The issued documents (rows of DOCUMENTS) of whom is wanted."""
        whose = pl.lit(value=True)
        if wanted.customer is not None:
            whose &= pl.col("customer").is_in(family_of(catalog, wanted.customer))
        if wanted.contract is not None:
            shared = pl.col("customer") == self._payer(wanted.contract, catalog)
            whose &= pl.coalesce(pl.col("contract") == wanted.contract, shared)
        return whose

    def _payer(self, contract: ContractId, catalog: Catalog) -> CustomerId:
        customer = catalog.contracts[contract].last.customer
        payer = self._desk.view.payers(catalog).of(contract, customer)
        return CustomerId(payer.customer)


def _require_known(wanted: Wanted, catalog: Catalog) -> None:
    if wanted.customer is not None and wanted.customer not in catalog.customers:
        raise NotFound(f"no customer {wanted.customer!r}")
    if wanted.contract is not None and wanted.contract not in catalog.contracts:
        raise NotFound(f"no contract {wanted.contract!r}")


def _narrowed(drafts: Drafts, wanted: Wanted) -> Drafts:
    """The drafts that have a line of the contract wanted, and the timing wanted."""
    heads = drafts.heads
    if wanted.contract is not None:
        own = drafts.lines.filter(pl.col("contract") == wanted.contract)
        heads = heads.join(own.select("document").unique(), on="document", how="semi")
    if wanted.timing is not None:
        heads = heads.filter(pl.col("timing") == wanted.timing)
    return Drafts(heads=heads, lines=drafts.lines, taxed=drafts.taxed)


def _lined(document: Document, lines: pl.DataFrame) -> Document:
    own = lines.select(list(LINES))
    if document.head["kind"] == DocumentKind.CREDIT_NOTE:
        own = own.with_columns(-pl.col("quantity", "amount", "event_count"))
    return Document(head=document.head, document=document.document, lines=own)


def _timed(wanted: Wanted) -> pl.Expr:
    return pl.lit(value=True) if wanted.timing is None else timing_of() == wanted.timing


def _of_status(wanted: Wanted, credits_: Mapping[str, Any]) -> pl.Expr:
    """The issued documents (rows of DOCUMENTS) of the status wanted: void is what was credited."""
    void = pl.col("id").is_in(list(credits_))
    if wanted.status is InvoiceStatus.VOID:
        return void
    if wanted.status is InvoiceStatus.ISSUED:
        return ~void
    return pl.lit(wanted.status is None)
