"""A contract's lines as its terms see them: documents, what is left of them, and term lines.

Everything is counted in minor units (cents), as integers: a line is rounded once, and what a term
takes from it is whole minor units too, so that what is left always adds up to what is billed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction

from catalog.clock import Micros
from catalog.ids import ProductId
from catalog.money import minor_units, nearest
from rating.frames import LineKind

Products = tuple[ProductId, ...] | None
"""What a term is limited to; null means everything."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Document:
    """What falls due together: a timing and billing period of one contract, ordered by when.

    ``due`` is the last instant of the period in arrears (and for usage billed once), the first in
    advance; its local day is the accounting date.
    """

    due: Micros
    timing: str
    start: Micros
    end: Micros
    accounting: date


@dataclass(slots=True, kw_only=True)
class Item:
    """What is left of some lines of a document; it changes as terms act.

    ``at`` is the instant it counts at as spend, ``free`` the share of it that lies in the trial.
    """

    kind: LineKind
    products: Products
    at: Micros
    left: int
    free: Fraction = Fraction(0)

    def under(self, products: Products) -> bool:
        """Whether all of it is within ``products``."""
        if products is None:
            return True
        return self.products is not None and set(self.products) <= set(products)

    @property
    def billed(self) -> bool:
        """Whether a price made it, not a term of the contract."""
        return self.kind in {LineKind.USAGE, LineKind.FIXED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TermStep:
    """One step to a term's amount, in the currency: before, the number stated, after."""

    name: str
    before: Fraction
    stated: Fraction | None
    after: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTerm:
    """A term of the contract: ``slot`` names it within it, ``stated`` is its content."""

    kind: LineKind
    slot: str
    stated: object
    revision: int
    products: Products = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TermLine:
    """One line of the contract as a whole.

    ``[start, end)`` is what it covers, ``document`` what it is billed with. ``amount`` counts
    minor units; the last step has it before it was rounded.
    """

    term: NamedTerm
    document: Document
    start: Micros
    end: Micros
    steps: tuple[TermStep, ...]
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What of a contract is settled: accounting dates before ``until``, from ``since`` on.

    Only documents whose period has begun by ``as_of``.
    """

    since: Micros
    until: date
    as_of: Micros

    def wants(self, document: Document) -> bool:
        """Whether a document is among them."""
        return document.start <= self.as_of and document.accounting < self.until


@dataclass(slots=True, kw_only=True)
class Account:
    """The items of every document of one contract, and the term lines made so far."""

    currency: str
    reach: Reach
    items: dict[Document, list[Item]] = field(default_factory=dict)
    lines: list[TermLine] = field(default_factory=list)

    @property
    def documents(self) -> list[Document]:
        """In the order they fall due."""
        return sorted(self.items)

    def under(self, document: Document, products: Products) -> list[Item]:
        """The document's items that lie within ``products``."""
        return [item for item in self.items[document] if item.under(products)]

    def spent(self, since: int, until: int, products: Products) -> Iterator[tuple[Document, int]]:
        """What prices billed within ``products`` in ``[since, until)``, document by document."""
        for document in self.documents:
            items = [i for i in self.under(document, products) if since <= i.at < until]
            if billed := [item.left for item in items if item.billed]:
                yield document, sum(billed)

    @property
    def _units(self) -> int:
        return int(10 ** minor_units(self.currency))

    def minor(self, amount: Fraction | Decimal) -> Fraction:
        """An amount of the currency in minor units, exact."""
        return Fraction(amount) * self._units

    def major(self, minor: Fraction | int) -> Fraction:
        """Minor units as an amount of the currency, exact."""
        return Fraction(minor) / self._units

    def taken(
        self, term: NamedTerm, document: Document, amount: int, steps: tuple[TermStep, ...]
    ) -> None:
        """Bill what a term took off the items of ``document``, as a negative line."""
        start, end = document.start, document.end
        line = TermLine(
            term=term, document=document, start=start, end=end, steps=steps, amount=-amount
        )
        self.lines.append(line)

    def add(self, line: TermLine, *, at: Micros) -> None:
        """Bill ``line``, for later terms to find as an item that counts at ``at``."""
        self.lines.append(line)
        item = Item(kind=line.term.kind, products=line.term.products, at=at, left=line.amount)
        self.items.setdefault(line.document, []).append(item)


def rounded(exact: Fraction) -> int:
    """Whole minor units, half away from zero."""
    return nearest(exact.numerator, exact.denominator)


def take(items: Sequence[Item], parts: Iterable[Fraction]) -> int:
    """Take ``parts`` (minor units, one an item) off ``items``; returns their sum, rounded once.

    Each item gives whole units: the running sum is rounded, and an item gives its growth.
    """
    exact, before = Fraction(0), 0
    for item, part in zip(items, parts, strict=True):
        exact += part
        after = rounded(exact)
        item.left -= after - before
        before = after
    return before


def take_evenly(items: Sequence[Item], wanted: Fraction) -> int:
    """Take ``wanted`` off ``items`` by their size, at most what they come to; never below zero."""
    total = sum(item.left for item in items)
    if total <= 0 or wanted <= 0:
        return 0
    share = min(wanted, Fraction(total)) / total
    return take(items, [item.left * share for item in items])
