"""Issuing and voiding invoices: each once, whoever asks, however often."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl

from api.bookkeeping import Desk
from api.invoice_list import Document, PreparedDrafts, draft_ids
from api.invoices import Invoices, Wanted
from catalog.clock import EVER
from catalog.errors import NotFound
from invoicing.closing import PeriodNotEnded, amounts_of
from invoicing.drafts import InvoiceStatus
from invoicing.issuing import (
    InvoiceNotIssued,
    InvoiceVoid,
    TaxRateMissing,
    credit_note,
    due_drafts,
    new_invoices,
)
from invoicing.ports import DocumentKind, Entry
from invoicing.view import STANDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What issuing many at once came to. ``waiting`` says which could not be taxed, and why."""

    issued: int
    not_due: int
    waiting: Sequence[Mapping[str, str]]
    amounts: Mapping[str, str]
    first_number: str | None
    last_number: str | None


class Issuing:
    """Writes documents. ``grace`` is how long an ended billing period stays a draft."""

    def __init__(self, desk: Desk, invoices: Invoices, *, grace: timedelta) -> None:
        self._desk = desk
        self._invoices = invoices
        self._grace = grace

    async def issue(self, id_: str, *, actor: str | None) -> Document:
        """Number a draft and close its lines; one that was issued is answered as it is.

        Raises:
            NotFound: no invoice has that id.
            InvoiceVoid: it was voided.
            PeriodNotEnded: it is not due yet.
            TaxRateMissing: it waits for a rate.
            NodeBehind: a node is silent.
        """
        found = await asyncio.to_thread(self._invoices.find, id_)
        if found is None:
            found = await self._desk.decide(lambda: self._issue_one(id_, actor))
        if found.head["kind"] == DocumentKind.INVOICE.value:
            if found.head["status"] == InvoiceStatus.VOID:
                raise InvoiceVoid(f"{found.head['number']} was voided")
            return (await asyncio.to_thread(self._invoices.with_lines, found))[0]
        raise InvoiceVoid("a credit note is not issued again")

    async def issue_due(self, wanted: Wanted, *, actor: str | None) -> Issued:
        """Issue every draft of ``wanted`` that is due and can be taxed, in one transaction.

        Raises:
            NodeBehind: a node is silent.
        """
        return await self._desk.decide(lambda: self._issue_many(wanted, actor))

    async def void(self, id_: str, *, reason: str | None, actor: str | None) -> Document:
        """Take an issued invoice back, whole, by a credit note. Its lines are on a draft again.

        Raises:
            NotFound: no invoice has that id.
            InvoiceNotIssued: it is a draft, or a credit note.
        """
        found = await asyncio.to_thread(self._invoices.find, id_)
        if found is None:
            await self._invoices.invoice(id_)
            raise InvoiceNotIssued("a draft is a view: there is nothing to void")
        if found.head["kind"] == DocumentKind.CREDIT_NOTE:
            raise InvoiceNotIssued("a credit note is not voided; issue what it took back again")
        if found.head["status"] != InvoiceStatus.VOID:
            found = await self._desk.decide(lambda: self._void(id_, reason, actor))
        return (await asyncio.to_thread(self._invoices.with_lines, found))[0]

    async def _issue_one(self, id_: str, actor: str | None) -> Document:
        found = await asyncio.to_thread(self._invoices.find, id_)
        if found is not None:
            return found
        settled = await self._desk.settle()
        entry = await asyncio.to_thread(self._desk.entry, settled, actor=actor)
        prepared = await self._invoices.drafts_near(id_, settled)
        ready = await asyncio.to_thread(self._ready, prepared, id_)
        await asyncio.to_thread(self._write, prepared, ready, entry)
        found = await asyncio.to_thread(self._invoices.find, id_)
        assert found is not None
        return found

    def _ready(self, prepared: PreparedDrafts, id_: str) -> pl.DataFrame:
        """The one draft (DRAFTS) with this id, if it may be issued."""
        heads = prepared.drafts.heads
        mine = heads.filter(draft_ids(heads, self._invoices.issues(heads)) == id_)
        if mine.is_empty():
            raise NotFound(f"no invoice {id_[:200]!r}")
        if due_drafts(mine, now=self._desk.clock.now_us(), grace=self._grace).is_empty():
            raise PeriodNotEnded("an invoice is due when its billing period, and grace, is over")
        waiting = mine["waiting"].item()
        if waiting is not None:
            raise TaxRateMissing(waiting)
        return mine

    async def _issue_many(self, wanted: Wanted, actor: str | None) -> Issued:
        settled = await self._desk.settle()
        entry = await asyncio.to_thread(self._desk.entry, settled, actor=actor)
        prepared = await self._invoices.drafts(wanted, settled)
        return await asyncio.to_thread(self._write_due, prepared, entry)

    def _write_due(self, prepared: PreparedDrafts, entry: Entry) -> Issued:
        heads = prepared.drafts.heads
        due = due_drafts(heads, now=self._desk.clock.now_us(), grace=self._grace)
        ready = due.filter(pl.col("waiting").is_null())
        waiting = due.filter(pl.col("waiting").is_not_null()).select("document", "waiting")
        numbers = pl.Series(dtype=pl.String)
        if ready.height:
            numbers = self._write(prepared, ready, entry)["number"]
        net = pl.col("amount") - pl.col("inclusive") + pl.col("tax")
        return Issued(
            issued=ready.height,
            not_due=heads.height - due.height,
            waiting=[{"id": name, "reason": why} for name, why in waiting.iter_rows()],
            amounts=amounts_of(ready.select("currency", amount=net)),
            first_number=numbers[0] if len(numbers) else None,
            last_number=numbers[-1] if len(numbers) else None,
        )

    def _write(self, prepared: PreparedDrafts, ready: pl.DataFrame, entry: Entry) -> pl.DataFrame:
        """Append the documents, and the lines of theirs that are open; answers DOCUMENTS."""
        drafts = prepared.drafts
        new = new_invoices(
            drafts,
            ready,
            self._invoices.issues(ready),
            catalog=prepared.catalog,
            as_of=entry.as_of,
        )
        open_lines = drafts.lines.filter(pl.col("sequence").is_null())
        mine = open_lines.join(ready.select("document"), on="document", how="semi")
        return self._desk.books.issue(new, mine, entry)

    async def _void(self, id_: str, reason: str | None, actor: str | None) -> Document:
        settled = await self._desk.question()
        entry = await asyncio.to_thread(self._desk.entry, settled, actor=actor)
        return await asyncio.to_thread(self._write_credit, id_, reason, entry)

    def _write_credit(self, id_: str, reason: str | None, entry: Entry) -> Document:
        books = self._desk.books
        found = self._invoices.find(id_)
        assert found is not None
        if found.head["status"] != InvoiceStatus.VOID:
            row: dict[str, Any] = books.documents(as_of=EVER, ids=[id_]).row(0, named=True)
            same = books.documents(as_of=EVER, documents=[row["document"]])
            issue = same.filter(pl.col("kind") == DocumentKind.INVOICE.value).height
            note = credit_note(row, issue=issue, reason=reason)
            books.issue(note, STANDING.to_frame(), entry)
            found = self._invoices.find(id_)
            assert found is not None
        return found
