"""Invoices as they are read: drafts are views over the books, issued ones are what was written."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from api.bookkeeping import Desk
from api.totals import Settled
from catalog.clock import EVER, Micros, to_micros
from catalog.errors import NotFound
from catalog.families import family_of
from catalog.ids import ContractId, CustomerId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.documents import Grouping, issue_id, named_in_document
from invoicing.drafts import InvoiceStatus
from invoicing.placement import latest_day
from invoicing.ports import DocumentKind
from invoicing.preparing import Drafts, drafts_of, heads_of
from invoicing.tax import TaxEngine
from invoicing.view import BEGINNING, FAR_AHEAD, Scope
from rating.frames import LINES


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One invoice or credit note as JSON, but for its lines; ``lines`` are LINES where at hand."""

    head: Mapping[str, Any]
    document: str
    lines: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Documents, and the instant they are as of."""

    documents: Sequence[Document]
    as_of: Micros


class Invoices:
    """The documents of one deployment, read. Everything blocking runs in threads."""

    def __init__(self, desk: Desk, *, grouping: Grouping, tax: TaxEngine) -> None:
        self._desk = desk
        self._grouping = grouping
        self._tax = tax

    async def listed(self, wanted: Wanted) -> Listed:
        """Documents by customer, contract, timing and period, without the lines of issued ones."""
        settled = await self._desk.question(wanted.as_of)
        catalog = await asyncio.to_thread(self._desk.catalogs.as_of, settled.as_of)
        _require_known(wanted, catalog)
        found: list[Document] = []
        drafted = wanted.kind is DocumentKind.INVOICE
        if wanted.status is not InvoiceStatus.DRAFT or not drafted:
            found.extend(await asyncio.to_thread(self._issued, wanted, settled.as_of, catalog))
        if wanted.status in {None, InvoiceStatus.DRAFT} and drafted:
            drafts = await self.drafts(wanted, settled)
            found.extend(await asyncio.to_thread(self._told, drafts, settled.as_of))
        kept = [d for d in found if wanted.timing in {None, d.head["timing"]}]
        return Listed(documents=sorted(kept, key=_order), as_of=settled.as_of)

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
        for document in await asyncio.to_thread(self._told, drafts, settled.as_of):
            if document.head["id"] == id_:
                return document
        raise NotFound(f"no invoice {id_[:200]!r}")

    def find(self, id_: str) -> Document | None:
        """An issued document by its id, without its lines; null where none was issued."""
        books = self._desk.books
        rows = books.documents(as_of=EVER, ids=[id_])
        if rows.is_empty():
            return None
        row = rows.row(0, named=True)
        same = books.documents(as_of=EVER, documents=[row["document"]])
        return _as_issued(row, _credits(same))

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

    def _issued(self, wanted: Wanted, as_of: Micros, catalog: Catalog) -> list[Document]:
        since, until = wanted.period.first, wanted.period.until
        rows = self._desk.books.documents(as_of=as_of, since=since, until=until)
        mine = rows.filter(pl.col("kind") == wanted.kind.value, self._theirs(wanted, catalog))
        credits_ = _credits(rows)
        told = [_as_issued(row, credits_) for row in mine.iter_rows(named=True)]
        return [d for d in told if wanted.status in {None, d.head["status"]}]

    def _told(self, prepared: PreparedDrafts, as_of: Micros) -> list[Document]:
        """Drafts as JSON, with their lines."""
        drafts, catalog = prepared.drafts, prepared.catalog
        issues = self.issues(drafts.heads, as_of)
        texts = heads_of(drafts.heads, drafts.taxed, catalog=catalog)
        lines = {
            str(document): part.select(list(LINES))
            for (document,), part in drafts.lines.group_by("document", maintain_order=True)
        }
        found = []
        told = drafts.heads.select("document", "waiting").iter_rows()
        for text, (name, waiting) in zip(texts, told, strict=True):
            identity = {"id": issue_id(name, issues[name] + 1), "kind": DocumentKind.INVOICE.value}
            head = identity | {"number": None, "issued_at": None} | json.loads(text)
            more = {"status": InvoiceStatus.DRAFT.value, "waiting": waiting}
            found.append(Document(head=head | more, document=name, lines=lines[name]))
        return found

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDrafts:
    """Drafts, and the catalog they were made with."""

    drafts: Drafts
    catalog: Catalog


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


def _order(document: Document) -> tuple[str, ...]:
    head = document.head
    return tuple(head[n] or "" for n in ("customer", "contract", "timing", "period_start", "id"))


def _credits(rows: pl.DataFrame) -> dict[str, dict[str, str]]:
    """The credit note of each invoice that has one."""
    notes = rows.filter(pl.col("credits").is_not_null())
    return {
        invoice: {"id": id_, "number": number}
        for invoice, id_, number in notes.select("credits", "id", "number").iter_rows()
    }


def _as_issued(row: Mapping[str, Any], credits_: Mapping[str, dict[str, str]]) -> Document:
    note = credits_.get(row["id"])
    status = InvoiceStatus.ISSUED if note is None else InvoiceStatus.VOID
    more = {"status": status.value, "credit_note": note, "checksum": row["checksum"]}
    return Document(head=json.loads(row["head"]) | more, document=row["document"])
