"""Double entry: what each line posts to which account, balanced by construction.

A line of amount A debits the receivable with its gross and credits its own account with its net
and tax payable with its tax; negative amounts turn the sides. Nothing is rounded here: amounts
are those of lines, to the minor unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from catalog.grammar.nodes import Codec, Fields, Node, Record, listed, may, need
from catalog.grammar.scalars import TEXT, choice
from catalog.pricebooks import Timing
from outbound.streams import Batch, Stream
from rating.frames import AMOUNT, LineKind

RULES_MAX = 1_000


class Post(StrEnum):
    """What is posted: issued documents, with tax; or lines as soon as they are closed, without."""

    INVOICES = "invoices"
    LINES = "lines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The account of lines that match every field named; the first rule that does counts."""

    account: str
    products: tuple[str, ...] | None = None
    kinds: tuple[LineKind, ...] | None = None
    entities: tuple[str, ...] | None = None
    timing: Timing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Where things are posted. What is null goes to ``revenue``.

    ``deferred`` takes fixed fees in advance and what adjusts them (revenue to be recognised
    later), ``credits`` what prepaid credits paid, ``discounts`` what was given away. ``rules`` come
    before all of these.
    """

    receivable: str
    revenue: str
    tax_payable: str
    deferred: str | None = None
    credits: str | None = None
    discounts: str | None = None
    rules: tuple[Rule, ...] = ()
    post: Post = Post.INVOICES


_RULE = Record(
    Rule,
    need("account", TEXT),
    may("products", listed(TEXT, least=1)),
    may("kinds", listed(choice(LineKind), least=1)),
    may("entities", listed(TEXT, least=1)),
    may("timing", choice(Timing)),
)
_ACCOUNTS = Record(
    Accounts,
    need("receivable", TEXT),
    need("revenue", TEXT),
    need("tax_payable", TEXT),
    may("deferred", TEXT),
    may("credits", TEXT),
    may("discounts", TEXT),
    may("rules", listed(_RULE.codec, most=RULES_MAX)),
    may("post", choice(Post)),
)


def _read(node: Node) -> Accounts:
    fields = Fields(node)
    found = fields.need("accounts", _ACCOUNTS.codec)
    fields.settle()
    return found


ACCOUNTS: Codec[Accounts] = Codec(_read, lambda held: {"accounts": _ACCOUNTS.write(held)})
"""``options: {accounts: {receivable, revenue, tax_payable, deferred?, credits?, …}}``."""

POSTINGS = pl.Schema(
    {
        "entry": pl.String(),
        "date": pl.Date(),
        "entity": pl.String(),
        "customer": pl.String(),
        "contract": pl.String(),
        "number": pl.String(),
        "account": pl.String(),
        "currency": pl.String(),
        "debit": AMOUNT,
        "credit": AMOUNT,
        "product": pl.String(),
        "kind": pl.String(),
        "line_id": pl.String(),
    }
)
"""One row a posting; one of ``debit`` and ``credit`` is above 0, the other 0. The postings of an
``entry`` (one document, or one contract's lines of one closing) share date, entity and currency,
and their debits are their credits. ``line_id`` is null where a posting sums up several lines; its
``customer`` is then who is billed, the parent of a family."""

_ENTRY = ("entry", "date", "entity", "number", "currency")


def stream_of(accounts: Accounts) -> Stream:
    """What a journal reads."""
    return Stream.DOCUMENTS if accounts.post is Post.INVOICES else Stream.LINES


def postings(batch: Batch, accounts: Accounts) -> pl.DataFrame:
    """POSTINGS of a batch: per entry the receivable, then each line, then the tax."""
    lines = _entered(batch).with_columns(account=_account(accounts)).with_row_index("place")
    receivable = _summed(lines, "gross", account=accounts.receivable, side=1)
    own = lines.with_columns(signed=-pl.col("net"), part=pl.lit(2), at=pl.col("place"))
    tax = _summed(lines, "tax", account=accounts.tax_payable, side=-1)
    both = pl.concat([_shaped(frame) for frame in (receivable, own, tax)])
    order = lines.group_by("entry").agg(first=pl.col("place").min())
    return (
        both.filter(pl.col("signed") != 0)
        .join(order, on="entry")
        .sort("first", "part", "at")
        .with_columns(
            debit=pl.when(pl.col("signed") > 0).then("signed").otherwise(0),
            credit=pl.when(pl.col("signed") < 0).then(-pl.col("signed")).otherwise(0),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in POSTINGS.items())
    )


def _entered(batch: Batch) -> pl.DataFrame:
    """The lines with the entry each is in: its document, or its contract's part of a closing."""
    if batch.stream is Stream.DOCUMENTS:
        return batch.lines.with_columns(entry=pl.col("document_id"), date=pl.col("document_date"))
    parts = ("closed_by", "entity", "contract", "accounting_date", "currency")
    named = pl.concat_str([pl.col(name).cast(pl.String) for name in parts], separator="/")
    # A closing that two deliveries share is an entry in each, balanced by itself.
    first = pl.col("sequence").min().over(parts).cast(pl.String)
    entry = pl.concat_str([named, first], separator="/")
    return batch.lines.with_columns(entry=entry, date=pl.col("accounting_date"))


def _account(accounts: Accounts) -> pl.Expr:
    """The account of each line: the first rule that matches, else by what the line is."""
    kind = pl.col("kind")
    found = pl.lit(accounts.revenue)
    fees = kind.is_in([LineKind.FIXED.value, LineKind.ADJUSTMENT.value])
    advance = fees & (pl.col("timing") == Timing.ADVANCE)  # nothing else is billed in advance
    for condition, account in (
        (advance, accounts.deferred),
        (kind == LineKind.CREDIT, accounts.credits),
        (kind == LineKind.DISCOUNT, accounts.discounts),
    ):
        if account is not None:
            found = pl.when(condition).then(pl.lit(account)).otherwise(found)
    for rule in reversed(accounts.rules):
        matches = pl.all_horizontal(pl.lit(True), *_conditions(rule))
        found = pl.when(matches).then(pl.lit(rule.account)).otherwise(found)
    return found


def _conditions(rule: Rule) -> Iterable[pl.Expr]:
    for column, values in (
        ("product", rule.products),
        ("kind", rule.kinds),
        ("entity", rule.entities),
    ):
        if values is not None:
            yield pl.col(column).is_in(list(values)).fill_null(False)
    if rule.timing is not None:
        yield pl.col("timing") == rule.timing.value


def _summed(lines: pl.DataFrame, column: str, *, account: str, side: int) -> pl.DataFrame:
    """One posting an entry: the sum of a column, on ``side`` (1 debit, -1 credit)."""
    part = 1 if side == 1 else 3
    shared = [pl.col(name).first() for name in _ENTRY[1:]]
    billed = {name: pl.col(f"billed_{name}").first() for name in ("customer", "contract")}
    summed = lines.group_by("entry", maintain_order=True).agg(
        *shared, **billed, signed=pl.col(column).sum() * side
    )
    return summed.with_columns(
        pl.lit(None, pl.String).alias(name) for name in ("product", "kind", "line_id")
    ).with_columns(account=pl.lit(account), part=pl.lit(part), at=pl.lit(0, pl.UInt32))


def _shaped(frame: pl.DataFrame) -> pl.DataFrame:
    texts = ("customer", "contract", "account", "product", "kind", "line_id")
    return frame.select(*_ENTRY, *texts, pl.col("signed").cast(AMOUNT), "part", "at")
