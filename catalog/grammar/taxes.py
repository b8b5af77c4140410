"""``taxes: {jurisdiction: {name, rates, prices?, rounding?}}`` and a customer's ``tax``."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime
from itertools import pairwise

from catalog.errors import DomainError
from catalog.grammar.nodes import Codec, Fields, Node, Record, listed, may, need, shape, step
from catalog.grammar.scalars import JURISDICTION, NAME, NAMED, TEXT, choice, decimal
from catalog.moments import parse_moment
from catalog.money import NumberLimit
from catalog.taxes import CustomerTax, TaxPrices, TaxRate, TaxRounding, TaxTable

RATES_MAX = 1_000
# As many as an invoice states: 0.0725 is 7.25 %.
PERCENT = decimal(NumberLimit(name="tax rate", below=1_000, decimals=6), least=0, most=100)


def _read_day(node: Node) -> date:
    if not isinstance(node.value, str):
        raise node.refuse(f"must be a date as 2026-01-01, not {shape(node.value)}")
    try:
        found = parse_moment(node.value)
    except DomainError as error:
        raise node.refuse(error.detail) from None
    if isinstance(found, datetime):
        raise node.refuse("a rate begins and ends with a day: a date without a time")
    return found


DAY: Codec[date] = Codec(_read_day, date.isoformat)


def _check_rate(rate: TaxRate, fields: Fields) -> None:
    if rate.since and rate.until and rate.until <= rate.since:
        fields.refuse("until", "must be later than 'from'")


_RATE = Record(
    TaxRate,
    need("percent", PERCENT),
    may("tax_code", NAMED, "code"),
    may("from", DAY, "since"),
    may("until", DAY),
    check=_check_rate,
)


def _check_table(table: TaxTable, fields: Fields) -> None:
    """Each code's rates, in order of time, begin where the one before ends."""
    of_code: defaultdict[str | None, list[tuple[int, TaxRate]]] = defaultdict(list)
    for index, rate in enumerate(table.rates):
        of_code[rate.code].append((index, rate))
    for rates in of_code.values():
        rates.sort(key=lambda held: held[1].since or date.min)
        for (_, before), (index, after) in pairwise(rates):
            wrong = _gap(before, after)
            if wrong is not None:
                place = step(f"{fields.node.pointer}/rates", index)
                fields.node.problems.note(f"{place}/from", wrong)


def _gap(before: TaxRate, after: TaxRate) -> str | None:
    of = "products without tax code" if after.code is None else f"tax code '{after.code}'"
    begins = "the beginning" if after.since is None else after.since.isoformat()
    if after.since is None or before.until is None or before.until > after.since:
        ends = "is open" if before.until is None else f"ends {before.until}"
        return f"two rates of {of} overlap: one begins at {begins}, the one before it {ends}"
    if before.until < after.since:
        return f"a hole: {of} has no rate from {before.until} to {begins}"
    return None


TAXES = Record(
    TaxTable,
    need("name", NAME),
    need("rates", listed(_RATE.codec, least=1, most=RATES_MAX)),
    may("prices", choice(TaxPrices)),
    may("rounding", choice(TaxRounding)),
    check=_check_table,
)

CUSTOMER_TAX = Record(
    CustomerTax,
    need("jurisdiction", JURISDICTION),
    may("exempt", TEXT),
    may("registration", NAME),
)
