"""What a period would have come to under another catalog: rated twice, compared.

Only contracts that a change touches are rated a second time; the others come to what they did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from catalog.charges import Capacity
from catalog.contracts import Contract
from catalog.history import chains_of
from catalog.ids import ContractId, Kind
from catalog.pricebooks import Price
from catalog.references import overrides_of, prices_of, stages
from catalog.snapshot import Catalog
from rating.charges.base import NotCovered
from rating.frames import AMOUNT
from rating.pipeline import Asked, Prepared, from_facts, prepare, price
from rating.planned import Planned, Planning, planned
from rating.ports import FactSource
from rating.remembered import Remembered

BILLED = pl.Schema(
    {
        "customer": pl.String(),
        "contract": pl.String(),
        "product": pl.String(),
        "currency": pl.String(),
        "amount": AMOUNT,
        "lines": pl.Int64(),
        "event_count": pl.Int64(),
    }
)
"""One row per (customer, contract, product, currency): the sum of its lines, how many of them are
not nothing, and the events they count. ``product`` is null for terms of a whole contract."""

COMPARED = pl.Schema(
    {
        "customer": pl.String(),
        "product": pl.String(),
        "currency": pl.String(),
        "before": AMOUNT,
        "after": AMOUNT,
        "difference": AMOUNT,
    }
)
"""One row per (customer, product, currency) that has lines before or after, in that order.
``difference`` = ``after`` - ``before``, to the cent."""

_KEYS = ["customer", "contract", "product", "currency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """COMPARED rows, the lines and events on each side, and how many contracts were rated again."""

    rows: pl.DataFrame
    lines_before: int
    lines_after: int
    events: int
    touched: int


class Simulator:
    """Compares catalogs over one fact source. Nothing is stored.

    The plans of the catalog in force are kept, and so are its amounts at one ``as_of``, which never
    change.
    """

    def __init__(self, source: FactSource) -> None:
        self._source = source
        self._planning = Planning()
        self._billed: tuple[Catalog, Asked, pl.DataFrame] | None = None

    def compare(self, before: Catalog, after: Catalog, asked: Asked) -> Comparison:
        """What ``asked`` comes to under both catalogs.

        Raises:
            NotCovered, OutOfRange, UnsupportedTerms: as :func:`rating.pipeline.rate`; an error that
                only the changed catalog has says so.
        """
        changed = touched(before, after)
        source = Remembered(self._source)
        old = self._before(before, asked, source)
        again = prepare(after, replace(asked, contracts=changed))
        try:
            new = billed(again, asked, source)
        except NotCovered as error:
            detail = f"under the changed catalog: {error.detail}"
            raise NotCovered(detail, lines=error.lines) from error
        return _compared(old, new, list(changed))

    def _before(self, catalog: Catalog, asked: Asked, source: FactSource) -> pl.DataFrame:
        """BILLED of the catalog in force."""
        held = self._billed
        if held is None or held[0] is not catalog or held[1] != asked:
            prepared = prepare(catalog, asked, self._planning)
            held = self._billed = (catalog, asked, billed(prepared, asked, source))
        return held[2]


def _compared(old: pl.DataFrame, new: pl.DataFrame, changed: list[ContractId]) -> Comparison:
    again = pl.col("contract").is_in(changed)
    kept = old.filter(~again)
    return Comparison(
        rows=_joined(old, pl.concat([kept, new])),
        lines_before=int(old["lines"].sum()),
        lines_after=int(kept["lines"].sum()) + int(new["lines"].sum()),
        events=int(old["event_count"].sum()),
        touched=pl.concat([old, new]).filter(again)["contract"].n_unique(),
    )


def _joined(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    nothing = pl.lit(0).cast(AMOUNT)
    sides = pl.concat(
        [
            old.with_columns(before="amount", after=nothing),
            new.with_columns(before=nothing, after="amount"),
        ]
    )
    keys = ["customer", "product", "currency"]
    rows = sides.group_by(keys).agg(pl.col("before", "after", "lines").sum())
    return (
        rows.filter(pl.col("lines") > 0)
        .with_columns(difference=pl.col("after") - pl.col("before"))
        .select(pl.col(name).cast(dtype) for name, dtype in COMPARED.items())
        .sort(keys, nulls_last=True)
    )


def billed(prepared: Prepared, asked: Asked, source: FactSource) -> pl.DataFrame:
    """BILLED of what was planned: what rating comes to, without its lines.

    Raises:
        NotCovered, OutOfRange, UnsupportedTerms: as :func:`rating.pipeline.rate`.
    """
    priced = price(prepared, from_facts(source, asked.as_of))
    rows = [
        (s.term.contract.customer, s.term.contract.id, s.product, s.currency, s.amount, 1, 0)
        for s in priced.settled
        if asked.period.holds(s.line.document.accounting) and s.amount
    ]
    named = _named(planned(priced.plans), asked)
    something = (pl.col("quantity") != 0) | (pl.col("amount") != 0)
    lines = priced.usage.join(named, on="line").with_columns(lines=something.cast(pl.Int64))
    whole = pl.DataFrame(rows, schema=BILLED, orient="row")
    both = pl.concat([lines.select(pl.col(n).cast(t) for n, t in BILLED.items()), whole])
    return both.group_by(_KEYS).agg(pl.col("amount", "lines", "event_count").sum())


def _named(plans: Planned, asked: Asked) -> pl.DataFrame:
    """Whose each line of the period is, and of which product."""
    counts = np.flatnonzero(plans.where(lambda part: asked.period.holds(part.accounting)))
    owners = [(owner.customer, owner.contract) for owner in plans.owners]
    parts = [(part.terms.product, part.terms.currency) for part in plans.parts]
    text = pl.String()
    whose = pl.DataFrame(owners, schema={"customer": text, "contract": text}, orient="row")
    what = pl.DataFrame(parts, schema={"product": text, "currency": text}, orient="row")
    named = whose[plans.owner[counts]].hstack(what[plans.part[counts]])
    return named.with_columns(pl.Series("line", counts))


def touched(before: Catalog, after: Catalog) -> set[ContractId]:
    """The contracts whose lines may differ: themselves, their customer, or what prices them."""
    changed = {kind: _changed(before, after, kind) for kind in Kind}
    products = changed[Kind.PRODUCTS] | {
        product
        for catalog in (before, after)
        for product, chain in catalog.products.items()
        if any(value.meter in changed[Kind.METERS] for value in chain.values)
    }
    moved = _Moved(products=products, meters=changed[Kind.METERS])
    books = changed[Kind.PRICEBOOKS] | {
        book
        for book, chain in before.pricebooks.items()
        if any(moved.prices(price) for value in chain.values for _, price in prices_of(value))
    }
    return {
        contract
        for contract, chain in after.contracts.items()
        if contract in changed[Kind.CONTRACTS]
        or chain.last.customer in changed[Kind.CUSTOMERS]
        or any(_names(value, books, moved) for value in chain.values)
    } | {ContractId(contract) for contract in changed[Kind.CONTRACTS]}


def _changed(before: Catalog, after: Catalog, kind: Kind) -> set[str]:
    """The ids of one family that do not say the same in both catalogs."""
    old, new = chains_of(before, kind), chains_of(after, kind)
    if old is new:
        return set()
    return {name for name in {*old, *new} if old.get(name) is not new.get(name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """Products and meters that are not what they were."""

    products: Collection[str]
    meters: Collection[str]

    def prices(self, price: Price) -> bool:
        """Whether the price counts one of them."""
        return price.product in self.products or any(m in self.meters for m in _limits(price))


def _limits(price: Price) -> Iterator[str]:
    if isinstance(price.charge, Capacity):
        for tier in price.charge.tiers:
            yield from (meter for meter, _ in tier.up_to or ())


def _names(contract: Contract, books: Collection[str], moved: _Moved) -> bool:
    if any(terms.pricebook in books for terms in stages(contract)):
        return True
    if not moved.products and not moved.meters:
        return False
    return any(
        override.product in moved.products or (override.price and moved.prices(override.price))
        for _, override in overrides_of(contract)
    )
