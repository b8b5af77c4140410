"""The models of the examples, by name: what each makes of its params and usage.

A model is a charge and what happens around it (bought in parts, bounded, converted, bucketed), so
names are read as such; the amount an example expects is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.vectors import charges
from tests.vectors.cases import Case, Event, NotSayable, Tree, hourly, priced, used
from tests.vectors.charges import Params, nonzero

Reader = Callable[[Params, Any], Case]

YEAR = {"every_months": "12"}


# -- one charge on one quantity -----------------------------------------------------------------


def _charge(base: str, params: Params) -> Tree:
    match base:
        case "flat":
            return charges.flat(params)
        case "per_unit":
            return charges.per_unit(params)
        case "package":
            return charges.package(params)
        case "graduated" | "volume":
            return charges.tiered(base, params)
        case "graduated_bounded":
            return charges.tiered("graduated", params, beyond="free")
        case "volume_bounded" | "volume_fractional_gap":
            return charges.tiered("volume", params)
        case "graduated_tier_cap":
            return charges.tiered("graduated", params)
        case "percentage":
            return charges.percentage(params)
        case "graduated_percentage":
            return charges.percent_tiers(params)
        case "stairstep" | "stairstep_cumulative":
            return charges.stairs(params, cumulative=base == "stairstep_cumulative")
        case "block_all_tiers":
            return charges.blocks("graduated", params)
        case "block_top_tier":
            return charges.blocks("volume", params)
        case "dynamic_multiplier":
            params.take("round")  # the example's own rounding: ours is to the decimals it shows
            multiplier = str(params.need("multiplier"))
            return {"model": "per_unit", "unit_price": multiplier}
    raise NotSayable(f"no such model: {base}")


def plain(model: str, params: Params, usage: Any) -> Case:
    """A charge, whatever its name says happens around it: the params say what does."""
    bucketed = model.startswith("bucketed_")
    base = model.removeprefix("bucketed_").partition("_with_")[0].removesuffix("_incremental")
    if base == "package" and params.take("round", "up") == "down":
        return _metered(_around(whole_packages(params), params, usage), usage)
    case = _around(priced(_charge(base, params)), params, usage)
    if bucketed or isinstance(usage, list):
        return replace(case.with_price(bucket="1h"), events=hourly(usage))
    if base == "dynamic_multiplier":
        return _named_by_events(case, usage)
    return _metered(case, usage)


def whole_packages(params: Params) -> Case:
    """Only complete packages are sold: units converted to packages, rounded down."""
    if nonzero(params.take("free_units")):
        raise NotSayable("free units before packages are rounded down")
    size, price = str(params.need("package_size")), str(params.need("amount"))
    convert = {"divide": size, "round": "down"}
    return priced({"model": "per_unit", "unit_price": price}, convert=convert)


def _around(case: Case, params: Params, usage: Any) -> Case:
    """The terms of a price that any model may have."""
    terms: Tree = {}
    if params.take("operation") is not None:
        raise AssertionError("conversions are read first")
    least, due = params.take("minimum"), params.take("last_in_period", True)
    if least is not None and due:
        terms["minimum"] = str(least)
    for key, term in (("maximum", "maximum"), ("percent_off", "discount_percent")):
        if (value := params.take(key)) is not None:
            terms[term] = str(value)
    for key in ("usage_discount", "included_units", "free_units"):
        if (free := params.take(key)) is not None:
            terms["included"] = str(free)
    surcharge = params.take("overage_surcharge_percent")
    if surcharge is not None:
        factor = 1 + Fraction(str(surcharge)) / 100
        case = replace(case, contract={"prices": [{"product": "m", "multiply": decimal(factor)}]})
    case = replace(case, whole_parts="each tier" in str(params.take("rounding") or ""))
    if isinstance(usage, dict) and "previously_billed" in usage:
        case = replace(case, less=Fraction(str(usage["previously_billed"])))
    return case.with_price(**terms)


def _metered(case: Case, usage: Any) -> Case:
    """One quantity; or what came before it, in the same span or the same bill."""
    if not isinstance(usage, dict):
        return replace(case, events=() if usage is None else (used(usage),))
    known = {"pre", "quantity", "previously_billed"}
    if set(usage) - known or "quantity" not in usage:
        raise NotSayable(f"usage of {', '.join(sorted(usage))}")
    pre, now = usage.get("pre", 0), usage["quantity"]
    if "previously_billed" in usage:
        return replace(case, events=(used(pre), used(now)))
    spanned = case.with_price(tiers_span=YEAR)
    return replace(spanned, events=(used(pre), used(now, month=2)), period="2026-02")


def _named_by_events(case: Case, usage: Any) -> Case:
    """Events that name their own price, in what would be the quantity."""
    metered = _metered(case, usage)
    (price,) = metered.prices
    if "tiers_span" in price:
        raise NotSayable("a dynamic price has no tiers to accumulate")
    multiplier = price["charge"]["unit_price"]
    dynamic = {"model": "dynamic", "amount": "data.cost", "multiplier": multiplier}
    events = tuple(
        replace(event, value="1", more=(("data.cost", event.value),)) for event in metered.events
    )
    return replace(metered, prices=(price | {"charge": dynamic},), events=events)


def decimal(number: Fraction) -> str:
    """A fraction that is a decimal, as text."""
    scaled = number * 10**12
    if scaled.denominator != 1:
        raise NotSayable(f"{number} has no end as a decimal")
    return f"{Decimal(scaled.numerator).scaleb(-12):f}"


def converting(model: str, params: Params, usage: Any) -> Case:
    """Units are converted before anything is priced."""
    convert = charges.conversion(params)
    return plain(model, params, usage).with_price(convert=convert)


# -- models with usage of their own ---------------------------------------------------------------


def percentage(params: Params, usage: Any) -> Case:
    """Events one by one, or what their running totals say they were; or only a quantity."""
    if not isinstance(usage, dict):
        return plain("percentage", params, usage)
    charge = charges.percentage(params)
    values = usage["events"] if "events" in usage else _events_of(usage)
    return replace(priced(charge), events=hourly(values))


def _events_of(usage: Tree) -> list[Decimal]:
    """Events with these running totals, the rest of the sum spread over the rest of the count."""
    total, count = Decimal(str(usage["sum"])), int(usage["count"])
    running = [Decimal(str(value)) for value in usage["running_total"]]
    values = [now - before for before, now in zip([Decimal(0), *running], running, strict=False)]
    rest, left = total - sum(values), count - len(values)
    if left < 0 or rest < 0 or (left == 0 and rest) or any(value < 0 for value in values):
        raise NotSayable("running totals that no events of this sum and count can have")
    return [*values, *([rest - (left - 1), *[Decimal(1)] * (left - 1)] if left else [])]


def dynamic(params: Params, usage: Any) -> Case:
    """Each event names its price in a subunit of the currency."""
    params.take("amount_from")
    multiplier = decimal(Fraction(1, int(params.take("subunit", 1))))
    names = [key for key in usage if key != "units"]
    if len(names) != 1:
        raise NotSayable("events without one amount of their own")
    event = replace(used(usage["units"]), more=(("data.cost", str(usage[names[0]])),))
    charge = {"model": "dynamic", "amount": "data.cost", "multiplier": multiplier}
    return replace(priced(charge), events=(event,))


def multi_block(params: Params, usage: Any) -> Case:
    """Several units, each in packages of its own: one price a unit."""
    units = params.need("units")
    prices = tuple(
        {
            "product": name,
            "charge": {
                "model": "package",
                "size": str(block["size"]),
                "package_price": str(block["price"]),
            },
        }
        for name, block in units.items()
    )
    return _of_meters(prices, usage)


def capacity(params: Params, usage: Any) -> Case:
    """The plan that several units fit into."""
    charge = charges.plans(params.need("tiers"))
    named = {name for tier in charge["tiers"] for name in tier.get("up_to", {})}
    limits = [tier["up_to"] for tier in charge["tiers"] if "up_to" in tier]
    if any(limit.keys() != named for limit in limits):
        raise NotSayable("plans that do not limit the same units")
    case = _of_meters(({"product": "plan", "charge": charge},), dict.fromkeys(named, 0) | usage)
    return replace(case, products={"plan": {"name": "plan"}})


def _of_meters(prices: tuple[Tree, ...], usage: Tree) -> Case:
    sums = {
        name: {"event_type": f"type-{name}", "aggregation": "sum", "value": "data.n"}
        for name in usage
    }
    events = tuple(used(value, meter=name) for name, value in usage.items())
    return Case(prices=prices, events=events, meters=sums)


# -- quantities -----------------------------------------------------------------------------------


def billable(params: Params, usage: Any) -> Case:
    """The units left when the first ones are free, some of which were used before."""
    charge = {"model": "per_unit", "unit_price": "1"}
    return _metered(priced(charge, included=str(params.need("discount_quantity"))), usage)


def package_units(params: Params, usage: Any) -> Case:
    """The units of the packages sold: as many as a unit price of 1 makes of them."""
    size = str(params.need("package_size"))
    return _metered(priced({"model": "package", "size": size, "package_price": size}), usage)


def usage_rounding(params: Params, usage: Any) -> Case:
    """Units rounded before they are priced; tens and hundreds as units of their own."""
    rounding, digits = (
        charges.ROUNDINGS.get(params.need("function")),
        int(params.take("precision", 0)),
    )
    if rounding is None:
        raise NotSayable("a rounding of its own")
    if Decimal(str(usage)) < 0 and rounding != "half_up":
        raise NotSayable("up and down are away from and towards zero here")
    unit = 10 ** max(0, -digits)
    convert = {"divide": str(unit), "round": rounding, "digits": str(max(0, digits))}
    return _metered(priced({"model": "per_unit", "unit_price": str(unit)}, convert=convert), usage)


def weighted_sum(params: Params, usage: Any) -> Case:
    """What was held, weighed by time, over a period of its own."""
    params.take("rule")
    start, end = params.need("period_start"), params.need("period_end")
    events = tuple(Event(time=time, value=str(value)) for time, value in usage["events"])
    meter = {"event_type": "m", "aggregation": "weighted_sum", "value": "data.n"}
    last = datetime.fromisoformat(end) - timedelta(microseconds=1)
    return Case(
        prices=({"product": "m", "charge": {"model": "per_unit", "unit_price": "1"}},),
        events=events,
        meters={"m": meter},
        contract={"start": start, "end": end, "invoicing": {"timing": "once"}},
        period=last.date().isoformat(),
        quantity=True,
    )


# -- time -----------------------------------------------------------------------------------------


def proration_days(params: Params, usage: Any) -> Case:
    """A fee for some days of a period."""
    params.take("rounding")
    days, whole = int(params.need("days")), int(params.need("period_days"))
    return replace(_fees((str(params.need("amount")), days), whole=whole), rounded=True)


def plan_change(params: Params, usage: Any) -> Case:
    """The rest of a period of the old fee is given back, that of the new one charged."""
    params.take("rounding")
    left, whole = int(params.need("days_left")), int(params.need("days_total"))
    old, new = str(params.need("old")), str(params.need("new"))
    return replace(_fees((f"-{old}", left), (new, left), whole=whole), rounded=True)


def _fees(*fees: tuple[str, int], whole: int) -> Case:
    """Fees for the first days of periods of ``whole`` days, each for as long as it says."""
    start = date(2026, 1, 1)
    prices = []
    for number, (amount, days) in enumerate(fees):
        if not 0 < days <= whole:
            raise NotSayable(f"{days} days of {whole}")
        prices.append(
            {
                "id": f"fee{number}",
                "product": "fee",
                "charge": {"model": "flat", "amount": amount.replace("--", "")},
                "prorate": "days",
                "invoicing": {"timing": "advance", "every_days": str(whole)},
            }
        )
    end = {"end": (start + timedelta(days=fees[0][1])).isoformat()}
    return Case(prices=tuple(prices), products={"fee": {"name": "fee"}}, contract=end)


# -- commitments ----------------------------------------------------------------------------------


def _commitment(params: Params) -> Tree:
    quantity, amount = params.take("commitment_quantity"), params.take("commitment_amount")
    factor, true_up = params.take("overage_factor"), params.take("true_up", False)
    if quantity is None and amount is None:
        return {}
    promise = {"quantity": str(quantity)} if quantity is not None else {"amount": str(amount)}
    commitment: Tree = promise | {"true_up": bool(true_up)}
    if factor is not None:
        commitment["overage_multiplier"] = str(factor)
    return {"commitment": commitment}


def committed(params: Params, usage: Any) -> Case:
    """A promise of one price, of the period or of each window."""
    windows = isinstance(usage, list)
    case = priced(charges.per_unit(params), **_commitment(params))
    if windows:
        return replace(case.with_price(bucket="1h"), events=hourly(usage))
    return _metered(case, usage)


def committed_together(params: Params, usage: Any) -> Case:
    """One promise over several products, used up in their order."""
    features = params.need("features")
    commitment = {
        "amount": str(params.need("commitment_amount")),
        "every_months": "1",
        "overage_multiplier": str(params.take("overage_factor", 1)),
        "true_up": bool(params.take("true_up", False)),
    }
    names = [f"m{number}" for number in range(len(features))]
    prices = tuple(
        {"product": name, "charge": {"model": "per_unit", "unit_price": str(price)}}
        for name, (price, _) in zip(names, features, strict=True)
    )
    quantities = {name: value for name, (_, value) in zip(names, features, strict=True)}
    return replace(_of_meters(prices, quantities), contract={"commitments": [commitment]})


def time_of_day(params: Params, usage: Any) -> Case:
    """Hours of the day with a price of their own, each window with its promise."""
    base, bucket = Params(params.need("base")), Params(params.need("bucket"))
    start, end = int(bucket.need("start")), int(bucket.need("end"))
    inside, outside = [f"{start:02d}:00-{end:02d}:00"], [f"{end % 24:02d}:00-{start or 24:02d}:00"]
    prices = tuple(
        {
            "id": name,
            "product": "m",
            "hours": hours,
            "bucket": "1h",
            "charge": charges.per_unit(given),
            **_commitment(given),
        }
        for name, hours, given in (("base", outside, base), ("bucket", inside, bucket))
    )
    base.finish()
    bucket.finish()
    events = tuple(
        Event(time=f"2026-01-10T{hour:02d}:00:00+00:00", value=str(value)) for hour, value in usage
    )
    return Case(prices=prices, events=events)


_TWO_QUANTITIES = (
    "prices prorated units in tiers picked by full ones; here the units that are priced pick the"
    " tier (a level held for part of a period is a weighted_sum)"
)


def volume_prorated(params: Params, usage: Any) -> Case:
    """Units that count in full, or else a rule that no price here has."""
    params.take("tier_selector")
    full, priced_units = str(usage["full_units"]), str(usage["prorated_units"])
    if Decimal(full) != Decimal(priced_units):
        raise NotSayable(_TWO_QUANTITIES)
    return _metered(priced(charges.tiered("volume", params)), full)


def graduated_prorated(params: Params, usage: Any) -> Case:
    """The same of events: in full and none taken back (fees are due of the most there ever was)."""
    params.take("round")  # the example's own rounding: ours is to the decimals it shows
    full, priced_units = ([Decimal(str(n)) for n in usage[key]] for key in ("full", "prorated"))
    if full != priced_units or any(units < 0 for units in full):
        raise NotSayable(_TWO_QUANTITIES)
    charge = charges.tiered("graduated", params) | {"flat_fee_when_unused": True}
    return replace(priced(charge), events=tuple(used(units) for units in full))


OWN: dict[str, Reader] = {
    "percentage": percentage,
    "percentage_per_event_min_max": percentage,
    "dynamic": dynamic,
    "block_multi_unit": multi_block,
    "capacity_multi_unit": capacity,
    "usage_discount_split": billable,
    "package_units": package_units,
    "usage_rounding": usage_rounding,
    "weighted_sum_aggregation": weighted_sum,
    "proration_days": proration_days,
    "proration_plan_change": plan_change,
    "commitment_overage": committed,
    "windowed_commitment": committed,
    "commitment_overage_multi": committed_together,
    "time_of_day_commitment": time_of_day,
    "minimum_spend_true_up": lambda params, usage: plain("per_unit", params, usage),
    "volume_prorated": volume_prorated,
    "graduated_prorated_per_event": graduated_prorated,
}


def read(model: str, given: Tree, usage: Any) -> Case:
    """What one example is, in our catalog.

    Raises:
        NotSayable: with what it asks for that cannot be said.
    """
    if model == "volume_with_tier_package":
        tier = {**given["tier"], "unit_amount": given["tier"]["amount"], "up_to": None}
        tier.pop("amount")
        model, given = "volume", {**given, "tiers": [tier]}
        given.pop("tier")
    params = Params(given)
    if model in OWN:
        case = OWN[model](params, usage)
    elif "operation" in given:
        case = converting(model, params, usage)
    else:
        case = plain(model, params, usage)
    params.finish()
    return case
