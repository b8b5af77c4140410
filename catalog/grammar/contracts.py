"""``contracts: {k: {customer, start, …}}``: a customer's terms and their amendments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from catalog.contracts import (
    Amendment,
    Commitment,
    Contract,
    Credit,
    Discount,
    Minimum,
    PriceOverride,
)
from catalog.grammar.customers import LABELS
from catalog.grammar.nodes import Codec, Fields, Node, Record, distinct, listed, may, need, step
from catalog.grammar.pricebooks import ENTITLEMENTS, PRICES_MAX, PRIORITY, check_ids
from catalog.grammar.prices import INVOICING, PRICE, PRORATE, check_order
from catalog.grammar.scalars import (
    AMOUNT_GIVEN,
    BOOLEAN,
    CURRENCY,
    CUSTOMER,
    FACTOR,
    MOMENT,
    MONTHS,
    NAMED,
    PERCENT,
    PRICEBOOK,
    PRODUCT,
    TEXT,
    TIMEZONE,
    integer,
)
from catalog.moments import in_utc
from catalog.pricebooks import Price

_PRODUCTS = distinct(listed(PRODUCT, least=1))


def _read_override(node: Node) -> PriceOverride:
    fields = Fields(node)
    overrides = fields.get("overrides", NAMED)
    additional = fields.get("additional", BOOLEAN) or False
    price, multiply, remove = None, None, False
    form = fields.one_of("charge", "multiply", "remove")
    if form == "charge":
        price = PRICE.build(fields)
    product = price.product if price is not None else fields.need("product", PRODUCT)
    if form == "multiply":
        multiply = fields.need("multiply", FACTOR)
    elif form == "remove":
        remove = fields.need("remove", BOOLEAN)
    fields.settle()
    if form == "remove" and not remove:
        fields.refuse("remove", "can only be true")
    if additional and (overrides is not None or price is None):
        fields.refuse("additional", "only a whole price that overrides nothing is additional")
    fields.settle()
    return PriceOverride(
        product=product,
        price=price,
        multiply=multiply,
        remove=remove,
        overrides=overrides,
        additional=additional,
    )


def _write_override(override: PriceOverride) -> object:
    written: dict[str, object] = {"product": override.product}
    if override.price is not None:
        written |= PRICE.write(override.price)
    elif override.multiply is not None:
        written["multiply"] = FACTOR.write(override.multiply)
    else:
        written["remove"] = True
    if override.overrides is not None:
        written["overrides"] = override.overrides
    if override.additional:
        written["additional"] = True
    return written


def _check_discount(discount: Discount, fields: Fields) -> None:
    fields.one_of("percent", "amount")
    check_order(discount.since, discount.until, fields=fields, key="until")


def _check_credit(credit: Credit, fields: Fields) -> None:
    check_order(credit.effective_at, credit.expires_at, fields=fields, key="expires_at")


_OVERRIDES = listed(Codec(_read_override, _write_override), most=PRICES_MAX)
_DISCOUNTS = listed(
    Record(
        Discount,
        may("percent", PERCENT),
        may("amount", AMOUNT_GIVEN),
        may("products", _PRODUCTS),
        may("from", MOMENT, "since"),
        may("until", MOMENT),
        check=_check_discount,
    ).codec
)
_COMMITMENTS = listed(
    Record(
        Commitment,
        need("amount", AMOUNT_GIVEN),
        may("every_months", MONTHS),
        may("overage_multiplier", FACTOR),
        may("true_up", BOOLEAN),
        may("products", _PRODUCTS),
    ).codec
)
_CREDITS = listed(
    Record(
        Credit,
        need("id", NAMED),
        need("amount", AMOUNT_GIVEN),
        may("priority", PRIORITY),
        may("effective_at", MOMENT),
        may("expires_at", MOMENT),
        may("products", _PRODUCTS),
        check=_check_credit,
    ).codec
)
_MINIMUM = Record(Minimum, need("amount", AMOUNT_GIVEN), need("every_months", MONTHS))


def _override_ids(overrides: Sequence[PriceOverride], fields: Fields) -> None:
    base = f"{fields.node.pointer}/prices"
    priced: list[tuple[str, Price]] = [
        (step(base, index), override.price)
        for index, override in enumerate(overrides)
        if override.price is not None
    ]
    check_ids(priced, fields)


def _check_amendment(amendment: Amendment, fields: Fields) -> None:
    check_order(amendment.effective_from, amendment.end, fields=fields, key="end")
    _override_ids(amendment.prices or (), fields)


_AMENDMENT = Record(
    Amendment,
    need("effective_from", MOMENT),
    may("prices", _OVERRIDES),
    may("discounts", _DISCOUNTS),
    may("commitments", _COMMITMENTS),
    may("pricebook", PRICEBOOK),
    may("end", MOMENT),
    check=_check_amendment,
)


def _read_trial(node: Node) -> timedelta:
    fields = Fields(node)
    days = fields.need("days", integer(least=1, most=3_650))
    fields.settle()
    return timedelta(days=days)


_TRIAL: Codec[timedelta] = Codec(_read_trial, lambda trial: {"days": trial.days})


def _check_contract(contract: Contract, fields: Fields) -> None:
    check_order(contract.start, contract.end, fields=fields, key="end")
    if contract.pricebook is None:
        for key in ("currency", "invoicing"):
            if not fields.has(key):
                fields.missing(f"'{key}' is missing: there is no pricebook to take it from")
        if contract.pin:
            fields.refuse("pin", "there is no pricebook whose prices could be kept")
    _override_ids(contract.prices, fields)
    _check_amendments(contract, fields)
    _check_credits(contract.credits, fields)


def _check_amendments(contract: Contract, fields: Fields) -> None:
    """Amendments follow each other inside the term, which an earlier one may have moved."""
    latest, end = in_utc(contract.start), contract.end
    for index, amendment in enumerate(contract.amendments):
        place = step(step(f"{fields.node.pointer}/amendments", index), "effective_from")
        begins = in_utc(amendment.effective_from)
        if begins < latest or (index and begins == latest):
            fields.node.problems.note(place, "must be later than what it amends")
        if end is not None and begins >= in_utc(end):
            fields.node.problems.note(place, "is not before the contract's end")
        latest, end = max(latest, begins), amendment.end or end


def _check_credits(credits_: Sequence[Credit], fields: Fields) -> None:
    seen: set[str] = set()
    for index, credit in enumerate(credits_):
        if credit.id in seen:
            place = step(step(f"{fields.node.pointer}/credits", index), "id")
            fields.node.problems.note(place, f"'{credit.id}' already names another credit")
        seen.add(credit.id)


CONTRACTS = Record(
    Contract,
    need("customer", CUSTOMER),
    may("pricebook", PRICEBOOK),
    may("currency", CURRENCY),
    may("invoicing", INVOICING),
    may("prorate", PRORATE),
    need("start", MOMENT),
    may("end", MOMENT),
    may("timezone", TIMEZONE),
    may("pin", BOOLEAN),
    may("entity", TEXT),
    may("external_ids", LABELS),
    may("metadata", LABELS),
    may("prices", _OVERRIDES),
    may("discounts", _DISCOUNTS),
    may("minimum", _MINIMUM.codec),
    may("commitments", _COMMITMENTS),
    may("credits", _CREDITS),
    may("trial", _TRIAL),
    may("entitlements", ENTITLEMENTS),
    may("amendments", listed(_AMENDMENT.codec)),
    check=_check_contract,
)
