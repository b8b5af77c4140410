"""What closing and issuing need from the outside: one store, in which each happens once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Protocol

import polars as pl

from catalog.clock import Micros
from catalog.errors import Conflict
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from invoicing.closed import ClosedLines


class BooksChanged(Conflict):
    """Something was closed or issued in between; nothing was written, and it can be tried again."""

    code = "books_changed"


class DocumentKind(StrEnum):
    """What an issued document is."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How much there is in the books: a decision made on one mark is kept only on the same."""

    sequence: int = 0
    position: int = 0
    months: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """A month that is closed. ``body`` is the JSON its first close answered, byte for byte.

    ``unsettled`` are the contracts of which an adjustment was left to a later period.
    """

    month: str
    recorded_at: Micros
    as_of: Micros
    unsettled: frozenset[str]
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BooksState:
    """What was closed by an instant.

    ``months`` are in order. ``first_issue`` is the ``as_of`` of the first document issued.
    """

    months: tuple[ClosedMonth, ...] = ()
    first_issue: Micros | None = None

    @property
    def closed_until(self) -> date:
        """The first day whose month is open: whatever counts before it is closed."""
        return PeriodSpec.parse(self.months[-1].month).until if self.months else date.min

    @property
    def anything(self) -> bool:
        """Whether there is anything that could need an adjustment."""
        return bool(self.months) or self.first_issue is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMonth:
    """A month as it is to be closed; ``facts`` are what its answer says beside ``closed_at``."""

    month: str
    as_of: Micros
    facts: Mapping[str, Any]
    unsettled: frozenset[str]
    lines: int
    checksum: str


NEW_DOCUMENTS = pl.Schema(
    {
        "id": pl.String(),
        "kind": pl.String(),
        "document": pl.String(),
        "issue": pl.Int64(),
        "entity": pl.String(),
        "prefix": pl.String(),
        "customer": pl.String(),
        "contract": pl.String(),
        "accounting_date": pl.Date(),
        "credits": pl.String(),
        "head": pl.String(),
        "lines_checksum": pl.String(),
    }
)
"""One row a document as it is to be issued; its number is given while it is written.

``head`` is its JSON, an object without ``id``, ``kind``, ``number`` and ``issued_at``. ``issue`` is
1, and one more after each time the document was voided. ``prefix`` and the ordinal make the
number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One writing: what is recorded with it, and on what it was decided.

    ``after`` is an instant that must stay in the past (the largest ``as_of`` already answered).
    ``closed_by`` is the month that is closed; null: each line by its own document.
    """

    mark: Mark
    as_of: Micros
    engine: str
    after: Micros
    actor: str | None = None
    closed_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """Which arrivals matter: received in ``(after, upto]``, with an event time before ``before``.

    Those of ``always`` matter whatever their event time. ``among``: no others (null: anyone).
    """

    after: Micros
    upto: Micros
    before: Micros
    always: frozenset[str] = frozenset()
    among: frozenset[str] | None = None


class Catalogs(Protocol):
    """The catalog as it was recorded at an instant."""

    def as_of(self, recorded_at: Micros) -> Catalog:
        """What had been stated by then."""
        ...


class Arrivals(Protocol):
    """Who had events come, or go, lately. The readers' positions must have reached ``upto``."""

    def subjects(self, arrived: Arrived) -> frozenset[str]:
        """Subjects of events received in the interval, or compensated in it; others too, maybe."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is looked through for closed lines that would be others at ``as_of``.

    ``catalog`` is that of ``as_of``, ``state`` what is closed then, ``ahead`` CLOSED of months
    that are not. ``among``: the contracts that are of interest (null: all).
    """

    catalog: Catalog
    state: BooksState
    ahead: pl.DataFrame
    as_of: Micros
    among: Collection[str] | None = None


class Books(ClosedLines, Protocol):
    """Everything closed and issued: appended to, never changed. Safe from any thread or process."""

    def mark(self) -> Mark:
        """How much there is now."""
        ...

    def state(self, *, as_of: Micros) -> BooksState:
        """What was closed by ``as_of``."""
        ...

    def month(self, month: str) -> ClosedMonth | None:
        """A closed month; null while it is open."""
        ...

    def closed(
        self,
        *,
        as_of: Micros,
        since: date | None = None,
        until: date | None = None,
        contracts: Collection[str] | None = None,
    ) -> pl.DataFrame:
        """CLOSED recorded by ``as_of``, with accounting dates in ``[since, until)``, by sequence.

        ``invoice`` and ``invoice_number`` are as of then, too. Null bounds and contracts mean all.
        """
        ...

    def issued(self, *, as_of: Micros, since: date | None = None) -> frozenset[str]:
        """Documents ever issued by ``as_of``, voided ones too, that count on ``since`` or later."""
        ...

    def documents(
        self,
        *,
        as_of: Micros,
        since: date | None = None,
        until: date | None = None,
        ids: Collection[str] | None = None,
        documents: Collection[str] | None = None,
    ) -> pl.DataFrame:
        """DOCUMENTS recorded by ``as_of``, narrowed by accounting date, id or document."""
        ...

    def close_month(self, new: NewMonth, lines: pl.DataFrame, entry: Entry) -> ClosedMonth:
        """Append ``lines`` (open LINES with BILLING, document, entity) and the month, as one.

        A month that is closed already is answered as it is, and nothing is written.

        Raises:
            BooksChanged: something else was written since ``entry.mark``.
        """
        ...

    def issue(self, new: pl.DataFrame, lines: pl.DataFrame, entry: Entry) -> pl.DataFrame:
        """Append ``lines`` and the documents (NEW_DOCUMENTS), as one; answers them as DOCUMENTS.

        Raises:
            BooksChanged: something else was written since ``entry.mark``.
        """
        ...
