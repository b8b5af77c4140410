"""``price: {product, charge, …}``, how it is invoiced, converted and committed to."""

from __future__ import annotations

from decimal import Decimal

from catalog.charges import Dynamic, Flat
from catalog.durations import DAY_MINUTES, hours_minutes
from catalog.grammar.charges import CHARGE
from catalog.grammar.nodes import Codec, Fields, Node, Record, listed, may, need
from catalog.grammar.scalars import (
    AMOUNT_GIVEN,
    BOOLEAN,
    FACTOR,
    HOURS,
    MOMENT,
    MONTHS,
    NAME,
    NAMED,
    PERCENT,
    PRODUCT,
    QUANTITY_ABOVE_0,
    QUANTITY_GIVEN,
    WINDOW,
    choice,
    integer,
)
from catalog.moments import in_utc
from catalog.pricebooks import (
    Anchor,
    Conversion,
    Invoicing,
    Moment,
    PeriodUnit,
    Price,
    PriceCommitment,
    Prorate,
    Rounding,
    Timing,
)

_EVERY = {
    "every_months": PeriodUnit.MONTH,
    "every_weeks": PeriodUnit.WEEK,
    "every_days": PeriodUnit.DAY,
}
_EVERY_KEYS = {unit: key for key, unit in _EVERY.items()}
_COUNT = integer(least=1, most=1_200)


def _read_invoicing(node: Node) -> Invoicing:
    fields = Fields(node)
    timing = fields.need("timing", choice(Timing))
    counts = {key: fields.get(key, _COUNT) for key in _EVERY}
    anchor = fields.get("anchor", choice(Anchor)) or Anchor.CONTRACT
    after_months = fields.get("after_months", integer(least=0, most=1_200)) or 0
    fields.settle()
    given = [(key, count) for key, count in counts.items() if count is not None]
    if timing is Timing.ONCE:
        for key, _ in given:
            fields.refuse(key, "what is billed once has no cadence")
        fields.settle()
        return Invoicing(timing=timing, anchor=anchor, after_months=after_months)
    fields.one_of(*_EVERY)
    key, every = given[0]
    if anchor is Anchor.MONTH and key != "every_months":
        fields.refuse(key, "what is anchored on a month is billed 'every_months'")
        fields.settle()
    return Invoicing(
        timing=timing, every=every, unit=_EVERY[key], anchor=anchor, after_months=after_months
    )


def _write_invoicing(invoicing: Invoicing) -> object:
    written: dict[str, object] = {"timing": invoicing.timing.value}
    if invoicing.timing is not Timing.ONCE:
        written[_EVERY_KEYS[invoicing.unit]] = invoicing.every
    if invoicing.anchor is not Anchor.CONTRACT:
        written["anchor"] = invoicing.anchor.value
    if invoicing.after_months:
        written["after_months"] = invoicing.after_months
    return written


INVOICING: Codec[Invoicing] = Codec(_read_invoicing, _write_invoicing)
PRORATE = choice(Prorate)


def _read_conversion(node: Node) -> Conversion:
    fields = Fields(node)
    form = fields.one_of("divide", "multiply")
    factor = fields.need(form, QUANTITY_ABOVE_0)
    rounding = fields.get("round", choice(Rounding)) or Rounding.NONE
    digits = fields.get("digits", integer(least=0, most=9))
    fields.settle()
    if digits and rounding is Rounding.NONE:
        fields.refuse("digits", "nothing is rounded: 'round' is none")
        fields.settle()
    divide, multiply = (factor, Decimal(1)) if form == "divide" else (Decimal(1), factor)
    return Conversion(divide=divide, multiply=multiply, round=rounding, digits=digits or 0)


def _write_conversion(conversion: Conversion) -> object:
    multiplied = conversion.divide == 1 and conversion.multiply != 1
    key, factor = ("multiply", conversion.multiply) if multiplied else ("divide", conversion.divide)
    written: dict[str, object] = {key: QUANTITY_ABOVE_0.write(factor)}
    if conversion.round is not Rounding.NONE:
        written["round"] = conversion.round.value
    if conversion.digits:
        written["digits"] = conversion.digits
    return written


def _check_commitment(_: PriceCommitment, fields: Fields) -> None:
    fields.one_of("quantity", "amount")


_COMMITMENT = Record(
    PriceCommitment,
    may("quantity", QUANTITY_ABOVE_0),
    may("amount", AMOUNT_GIVEN),
    may("overage_multiplier", FACTOR),
    may("true_up", BOOLEAN),
    check=_check_commitment,
)


def _read_span(node: Node) -> int:
    fields = Fields(node)
    months = fields.need("every_months", MONTHS)
    fields.settle()
    return months


EVERY_MONTHS: Codec[int] = Codec(_read_span, lambda months: {"every_months": months})
"""``{every_months: n}`` as the number."""


def check_order(since: Moment | None, until: Moment | None, *, fields: Fields, key: str) -> None:
    """Note at ``key`` that ``until`` does not come after ``since``. Dates are read as UTC."""
    if since is not None and until is not None and in_utc(until) <= in_utc(since):
        fields.refuse(key, "must be later than the beginning")


def check_price(price: Price, fields: Fields) -> None:
    """What must hold between the fields of one price."""
    check_order(price.effective_from, price.effective_until, fields=fields, key="effective_until")
    if price.from_period and price.to_period and price.from_period > price.to_period:
        fields.refuse("to_period", "must not be before 'from_period'")
    if price.minimum is not None and price.maximum is not None and price.minimum > price.maximum:
        fields.refuse("maximum", "must not be below 'minimum'")
    if isinstance(price.charge, Dynamic) and price.quantity is not None:
        fields.refuse("quantity", "a dynamic charge takes its price from events")
    if isinstance(price.charge, Flat):
        for key in ("included", "group_by", "convert", "bucket", "hours", "tiers_span"):
            if fields.has(key):
                fields.refuse(key, "a flat fee does not depend on usage")
    elif price.quantity is not None:
        for key in ("group_by", "bucket", "hours"):
            if fields.has(key):
                fields.refuse(key, "nothing is metered: 'quantity' is fixed")
    _check_hours(price.hours, fields)


def _check_hours(hours: tuple[str, ...], fields: Fields) -> None:
    """Stretches of the day must not overlap: usage is priced once."""
    taken: set[int] = set()
    for text in hours:
        since, until = hours_minutes(text)
        length = (until - since) % DAY_MINUTES
        minutes = {(since + offset) % DAY_MINUTES for offset in range(length)}
        if taken & minutes:
            fields.refuse("hours", f"{text} overlaps another stretch")
        taken |= minutes


_FIELDS = (
    need("product", PRODUCT),
    need("charge", CHARGE),
    may("id", NAMED),
    may("name", NAME),
    may("group_by", listed(NAMED, most=16)),
    may("included", QUANTITY_GIVEN),
    may("minimum", AMOUNT_GIVEN),
    may("maximum", AMOUNT_GIVEN),
    may("discount_percent", PERCENT),
    may("quantity", QUANTITY_GIVEN),
    may("prorate", PRORATE),
    may("invoicing", INVOICING),
    may("from_period", _COUNT),
    may("to_period", _COUNT),
    may("effective_from", MOMENT),
    may("effective_until", MOMENT),
    may("convert", Codec(_read_conversion, _write_conversion)),
    may("bucket", WINDOW),
    may("hours", listed(HOURS, most=24)),
    may("tiers_span", EVERY_MONTHS, "tiers_span_months"),
    may("commitment", _COMMITMENT.codec),
)

PRICE = Record(Price, *_FIELDS, check=check_price)
