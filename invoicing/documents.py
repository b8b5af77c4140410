"""Which document a line belongs on: who is billed, for which billing period, by which entity."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import polars as pl

from catalog.clock import to_micros
from catalog.errors import NotFound
from catalog.ids import ContractId, CustomerId
from catalog.snapshot import Catalog

DOCUMENT_KEY = (
    "owner",
    "timing",
    "billing_start",
    "billing_end",
    "accounting_date",
    "currency",
    "billed_entity",
)
_ID = re.compile(r"inv~([A-Za-z0-9][A-Za-z0-9._:-]{0,127})~([0-9]{8})~[0-9a-f]{20}(~[0-9]{1,9})?")


class Grouping(StrEnum):
    """Whose lines of one billing period share an invoice."""

    CONTRACT = "contract"
    CUSTOMER = "customer"
    PARENT = "parent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Who gets the invoice for a contract's lines.

    ``owner`` is what the grouping groups by: the contract, the customer, or the topmost parent.
    ``entity`` is the seller's, "" where none is named.
    """

    owner: str
    customer: str
    entity: str


class Payers:
    """Who pays for which contract, as one catalog and grouping say; each is found once."""

    def __init__(self, catalog: Catalog, grouping: Grouping) -> None:
        self._catalog = catalog
        self._grouping = grouping
        self._known: dict[tuple[str, str], Payer] = {}

    def of(self, contract: str, customer: str) -> Payer:
        """The payer of a contract's lines; ``customer`` is who the lines say."""
        found = self._known.get((contract, customer))
        if found is None:
            found = self._known[contract, customer] = self._found(contract, customer)
        return found

    def _found(self, contract: str, customer: str) -> Payer:
        chain = self._catalog.contracts.get(ContractId(contract))
        entity = chain.last.entity if chain and chain.versions else None
        payer = customer if self._grouping is not Grouping.PARENT else self._topmost(customer)
        return Payer(
            owner=contract if self._grouping is Grouping.CONTRACT else payer,
            customer=payer,
            entity=entity or self._entity(customer) or "",
        )

    def document(self, line: Mapping[str, Any]) -> str:
        """The document of one line, by its columns of LINES and BILLING."""
        payer = self.of(line["contract"], line["customer"])
        end = line["billing_end"]
        return _document_id(
            self._grouping,
            payer.owner,
            line["timing"],
            to_micros(line["billing_start"]),
            None if end is None else to_micros(end),
            line["accounting_date"],
            line["currency"],
            payer.entity if self._grouped else "",
        )

    @property
    def _grouped(self) -> bool:
        return self._grouping is not Grouping.CONTRACT

    def documented(self, lines: pl.DataFrame) -> pl.DataFrame:
        """``lines`` (LINES and BILLING) with ``document``, ``entity`` and ``payer``, row by row."""
        keyed = self._owned(lines).with_columns(
            billed_entity=pl.col("entity") if self._grouped else pl.lit("")
        )
        keys = keyed.select(DOCUMENT_KEY).unique()
        ids = pl.Series("document", _document_ids(keys, self._grouping), dtype=pl.String())
        named = keys.with_columns(ids)
        joined = keyed.join(
            named, on=list(DOCUMENT_KEY), how="left", nulls_equal=True, maintain_order="left"
        )
        return joined.drop("owner", "billed_entity")

    def paid(self, lines: pl.DataFrame) -> pl.DataFrame:
        """``lines`` with ``payer`` as it is now, row by row; the rest as it is in the books."""
        if self._grouping is not Grouping.PARENT:
            return lines.with_columns(payer="customer")
        found = self._owned(lines.select("contract", "customer"))
        return lines.with_columns(found["payer"])

    def _owned(self, lines: pl.DataFrame) -> pl.DataFrame:
        """``lines`` with ``owner``, ``payer`` and ``entity`` of their contracts, row by row."""
        whose = lines.select("contract", "customer").unique().rows()
        found = [(*names, self.of(*names)) for names in whose]
        payers = pl.DataFrame(
            [(k, c, payer.owner, payer.customer, payer.entity) for k, c, payer in found],
            schema=dict.fromkeys(("contract", "customer", "owner", "payer", "entity"), pl.String()),
            orient="row",
        )
        return lines.join(payers, on=["contract", "customer"], how="left", maintain_order="left")

    def _topmost(self, customer: str) -> str:
        seen = {customer}
        while (parent := self._parent(customer)) is not None and parent not in seen:
            seen.add(parent)
            customer = parent
        return customer

    def _parent(self, customer: str) -> str | None:
        chain = self._catalog.customers.get(CustomerId(customer))
        return chain.last.parent if chain and chain.versions else None

    def _entity(self, customer: str) -> str | None:
        """The customer's entity, else its nearest parent's."""
        seen: set[str] = set()
        here: str | None = customer
        while here is not None and here not in seen:
            seen.add(here)
            chain = self._catalog.customers.get(CustomerId(here))
            if chain and chain.versions and chain.last.entity:
                return chain.last.entity
            here = self._parent(here)
        return None


def _document_ids(keys: pl.DataFrame, grouping: Grouping) -> Sequence[str]:
    instants = keys.with_columns(
        pl.col("billing_start").dt.epoch("us"), pl.col("billing_end").dt.epoch("us")
    )
    return [_document_id(grouping, *key) for key in instants.select(DOCUMENT_KEY).iter_rows()]


def _document_id(grouping: Grouping, owner: str, *key: object) -> str:
    """``inv~owner~day~digest``; the day is the accounting date, so that it says where to look."""
    day = key[3]
    assert isinstance(day, date)
    text = "\x1f".join("" if part is None else str(part) for part in (grouping, owner, *key))
    return f"inv~{owner}~{day:%Y%m%d}~{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def issue_id(document: str, issue: int) -> str:
    """The id of the ``issue``-th time a document is issued; the first has the document's own."""
    return document if issue == 1 else f"{document}~{issue}"


def named_in_document(document: str) -> tuple[str, date]:
    """The owner (a contract or customer) and the accounting date that an invoice's id names.

    Raises:
        NotFound: no invoice has such an id.
    """
    found = _ID.fullmatch(document)
    if found is None:
        raise NotFound(f"no invoice {document[:200]!r}")
    day = found[2]
    try:
        return found[1], date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        raise NotFound(f"no invoice {document[:200]!r}") from None
