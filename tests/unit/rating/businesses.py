"""Random businesses within what rates: a catalog, its usage, and the questions to ask of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import strategies as st

from catalog.changes import plan
from catalog.clock import to_datetime, to_micros
from catalog.events import FACTS
from catalog.grammar import parse_document
from catalog.ids import MeterId
from catalog.money import plain
from catalog.snapshot import Catalog
from storage.memory.facts import MemoryFactSource
from tests.oracle import Event
from tests.unit.rating.builders import dimensions_text

Tree = dict[str, Any]

START = datetime(2025, 11, 20, tzinfo=UTC)
REGIONS, MODELS = ("eu", "us", "ü"), ("a", "b")
UNIT_MODELS = (
    *("per_unit", "package", "graduated", "volume"),
    *("stairstep", "graduated_percentage", "percentage"),
)
AGGREGATIONS = (
    *("min", "max", "average", "latest", "unique_count", "percentile", "weighted_sum", "sum"),
)
WINDOWED = ("min", "max", "average", "latest", "percentile", "sum")
ACCUMULATING = ("sum", "count", "max", "unique_count")
WINDOWS = ("15m", "1h", "4h", "1d")
HOURS = (["00:00-06:00"], ["22:00-05:30", "12:00-13:00"], ["09:00-24:00"])
METERS: Tree = {
    "summed": {"event_type": "t", "aggregation": "sum", "value": "data.v"},
    "counted": {"event_type": "u", "aggregation": "count"},
}
DIMENSIONS = {"region": "data.region", "model": "data.model"}


def decimals(low: int, high: int, places: int) -> st.SearchStrategy[str]:
    """Decimal texts from ``low`` to ``high`` with up to ``places`` decimals."""
    return st.tuples(st.integers(low, high), st.integers(0, places)).flatmap(
        lambda drawn: st.integers(0, 10 ** drawn[1] - 1).map(
            lambda part: f"{drawn[0]}.{part:0{drawn[1]}d}" if drawn[1] else str(drawn[0])
        )
    )


prices = st.one_of(
    decimals(0, 9, 2), decimals(0, 3, 12), decimals(-3, 3, 4), st.just("99999999999999")
)
sizes = st.one_of(decimals(1, 30, 2), st.just("0.000000001"), st.just("100"))
days = st.integers(0, 200).map(lambda n: (START + timedelta(days=n)).date().isoformat())
starts = st.one_of(
    st.integers(0, 60).map(lambda n: (START + timedelta(days=n)).date().isoformat()),
    st.integers(0, 60 * 86_400).map(lambda s: (START + timedelta(seconds=s)).isoformat()),
)


def maybe(**fields: Any) -> st.SearchStrategy[Tree]:
    """Any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def tiers(draw: Any) -> list[Tree]:
    """Up to three tiers, the last open or not."""
    found, bound = [], Decimal(0)
    for _ in range(draw(st.integers(1, 3))):
        bound += Decimal(draw(decimals(1, 20, 1)))
        tier = {"up_to": str(bound), "unit_price": draw(prices)}
        more = maybe(flat_fee=decimals(-2, 9, 2), package_size=decimals(1, 7, 1))
        found.append(tier | draw(more) | draw(maybe(maximum=decimals(1, 40, 2))))
    if draw(st.integers(0, 3)):
        del found[-1]["up_to"]
    return found


percents = st.one_of(decimals(0, 100, 3), decimals(-9, 9, 12))


@st.composite
def bands(draw: Any, model: str) -> Tree:
    """The tiers of a stairstep or a graduated percentage, and its switch."""
    found = []
    for tier in draw(tiers()):
        held = {key: tier[key] for key in ("up_to", "flat_fee") if key in tier}
        if model == "stairstep":
            found.append({"flat_fee": draw(decimals(-2, 9, 2)), **held})
        else:
            found.append({"percent": draw(percents), **held})
    switch = "cumulative" if model == "stairstep" else "flat_fee_when_unused"
    return {"tiers": found, **draw(maybe(**{switch: st.booleans()}))}


@st.composite
def charges(draw: Any) -> Tree:
    """Any charge that rates and has a quantity."""
    model = draw(st.sampled_from(UNIT_MODELS))
    match model:
        case "per_unit":
            return {"model": model, "unit_price": draw(prices)}
        case "package":
            charge = {"model": model, "size": draw(sizes), "package_price": draw(prices)}
            return charge | draw(maybe(free_units=decimals(0, 20, 1)))
        case "percentage":
            return {"model": model, "percent": draw(percents)} | draw(maybe(free_units=sizes))
        case "stairstep" | "graduated_percentage":
            return {"model": model, **draw(bands(model))}
        case _:
            switches = maybe(
                flat_fee_when_unused=st.booleans(), beyond=st.sampled_from(["free", "refuse"])
            )
            return {"model": model, "tiers": draw(tiers())} | draw(switches)


@st.composite
def invoicings(draw: Any, *timings: str) -> Tree:
    """Any cadence with one of ``timings``."""
    found: Tree = {"timing": draw(st.sampled_from(timings))}
    more: Tree = {"anchor": st.sampled_from(["contract", "calendar"])}
    if found["timing"] != "once":
        unit = draw(st.sampled_from(["every_months", "every_months", "every_weeks", "every_days"]))
        found[unit] = draw(st.sampled_from([1, 1, 2, 3, 30]))
    found |= draw(maybe(after_months=st.sampled_from([0, 1]), **more))
    if "every_months" in found or found["timing"] == "once":
        found |= draw(maybe(anchor=st.just("month")))
    return found


converts = st.one_of(
    st.fixed_dictionaries({"divide": decimals(1, 9, 2)}),
    st.fixed_dictionaries({"multiply": decimals(1, 9, 2)}),
).flatmap(
    lambda base: st.one_of(
        st.just(base),
        st.fixed_dictionaries(
            {"round": st.sampled_from(["up", "down", "half_up"]), "digits": st.integers(0, 3)}
        ).map(lambda more: base | more),
    )
)
TERMS: Tree = {
    "minimum": decimals(0, 3, 2),
    "maximum": decimals(4, 90, 2),
    "discount_percent": decimals(0, 60, 2),
    "prorate": st.sampled_from([False, "days", "seconds"]),
    "from_period": st.integers(1, 3),
    "to_period": st.integers(3, 5),
}


@st.composite
def event_charges(draw: Any) -> Tree:
    """A percentage with terms for each event."""
    charge = {"model": "percentage", "percent": draw(percents)}
    low, high = sorted(Decimal(draw(decimals(-1, 9, 3))) for _ in range(2))
    more = maybe(
        fixed=decimals(-1, 3, 3),
        free_units=sizes,
        free_events=st.integers(0, 4),
        event_minimum=st.just(str(low)),
        event_maximum=st.just(str(high)),
    )
    return charge | draw(more)


@st.composite
def matrices(draw: Any) -> Tree:
    """Rows by region and model, with wildcards, that never tie."""
    asked = maybe(region=st.sampled_from([*REGIONS, "*"]), model=st.sampled_from("ab*"))
    rows: list[Tree] = []
    for when in draw(st.lists(asked.filter(bool), min_size=1, max_size=5)):
        rated = st.one_of(
            prices.map(lambda price: {"unit_price": price}),
            charges().map(lambda charge: {"charge": charge}),
            prices.map(lambda fee: {"charge": {"model": "flat", "amount": fee}}),
        )
        rows.append({"when": when, **draw(rated)})
        if _tied(rows):
            rows.pop()
    return {"model": "matrix", "rows": rows, **draw(maybe(otherwise=st.just("free")))}


def _tied(rows: list[Tree]) -> bool:
    """Whether the last row names as many keys as another that matches the same usage."""
    named = [{k: v for k, v in row["when"].items() if v != "*"} for row in rows]
    last = named[-1]
    return any(
        len(other) == len(last) and all(last.get(k, v) == v for k, v in other.items())
        for other in named[:-1]
    )


@st.composite
def plans(draw: Any) -> Tree:
    """A capacity of two meters, in up to three plans."""
    summed, number, tiers = Decimal(draw(decimals(0, 30, 1))), draw(st.integers(0, 3)), []
    for _ in range(draw(st.integers(1, 3))):
        up_to = {"summed": str(summed), "counted": str(number)}
        tiers.append({"up_to": up_to, "amount": draw(decimals(-1, 99, 2))})
        summed += Decimal(draw(decimals(1, 40, 1)))
        number += draw(st.integers(0, 4))
    if draw(st.integers(0, 3)):
        tiers.append({"amount": draw(prices)})
    return {"model": "capacity", "tiers": tiers}


@st.composite
def promises(draw: Any, charge: Tree) -> Tree:
    """The commitment of one price; what so many units cost only where tiers have no end."""
    ends = "up_to" in charge.get("tiers", [{}])[-1]
    kind = "amount" if ends else draw(st.sampled_from(["amount", "quantity"]))
    more = maybe(overage_multiplier=st.sampled_from(["1.5", "0", "0.25"]), true_up=st.booleans())
    return {kind: draw(decimals(1, 30, 3))} | draw(more)


FORMS = ("plain", "plain", "plain", "event", "cost", "plan", "bucket", "span")


@st.composite
def priced(draw: Any, product: str, meters: Tree) -> Tree:
    """A price of ``product``, metered unless it is the fee."""
    price: Tree = {"product": product, **draw(maybe(**TERMS))}
    if product == "fee" or draw(st.integers(0, 5)) == 0:
        flat = st.fixed_dictionaries({"model": st.just("flat"), "amount": prices})
        price["charge"] = draw(st.one_of(flat, charges()))
        price["quantity"] = draw(decimals(0, 12, 3))
        price["invoicing"] = draw(invoicings("arrears", "advance", "once"))
        return price
    price |= draw(maybe(invoicing=invoicings("arrears", "arrears", "once")))
    return price | draw(counted(meters[product]))


@st.composite
def counted(draw: Any, meter: Tree) -> Tree:
    """How usage of a meter is priced: any charge and the terms that go with it."""
    weighted, windowed = meter["aggregation"] == "weighted_sum", "window" in meter
    group = maybe(group_by=st.sampled_from([["region"], ["region", "model"]]))
    hours = {} if weighted else draw(maybe(hours=st.sampled_from(HOURS)))
    match draw(st.sampled_from(FORMS)):
        case "event" if meter["aggregation"] == "sum" and not windowed:
            return hours | {"charge": draw(event_charges())} | draw(group)
        case "cost":
            amount = {"model": "dynamic", "amount": "data.cost", **draw(maybe(multiplier=sizes))}
            return hours | {"charge": amount} | draw(group)
        case "plan":
            return {"charge": draw(plans())}
        case "bucket" if not weighted and not windowed:
            hours["bucket"] = draw(st.sampled_from(WINDOWS))
        case "span" if meter["aggregation"] in ACCUMULATING:
            hours["tiers_span"] = {"every_months": draw(st.sampled_from([1, 2, 6, 12]))}
    found = {"charge": draw(st.one_of(charges(), charges(), matrices()))}
    more = maybe(included=decimals(0, 9, 3), convert=converts)
    found |= draw(more) | draw(group) | hours
    if found["charge"]["model"] != "matrix" and "tiers_span" not in found:
        found |= draw(maybe(commitment=promises(found["charge"])))
    if found["charge"]["model"] == "matrix" and "tiers_span" in found:
        found.pop("included", None)
    return found


@st.composite
def dated(draw: Any, price: Tree, *, id: str | None = None) -> Tree:  # noqa: A002
    """A price with effective dates now and then."""
    found = dict(price) if id is None else {**price, "id": id}
    if draw(st.integers(0, 2)) == 0:
        since, until = sorted((draw(days), draw(days)))
        found["effective_from"] = since
        if until > since and draw(st.booleans()):
            found["effective_until"] = until
    return found


@st.composite
def pricebooks(draw: Any, products: list[str], meters: Tree) -> Tree:
    """A few prices; namesakes succeed each other by their dates."""
    found = []
    for index, product in enumerate(
        draw(st.lists(st.sampled_from(products), min_size=1, max_size=3))
    ):
        name = f"p{index}" if draw(st.booleans()) else None
        found.append(draw(dated(draw(priced(product, meters)), id=name)))
    return {
        "currency": "USD",
        "invoicing": draw(invoicings("arrears")),
        "prices": found,
        **draw(maybe(prorate=st.sampled_from(["days", "seconds"]))),
    }


@st.composite
def overrides(draw: Any, listed: list[str], products: list[str], meters: Tree) -> list[Tree]:
    """What a contract says about prices: at most one thing a product."""
    found = []
    for product in draw(st.lists(st.sampled_from(products), max_size=2, unique=True)):
        kinds = ["price", "additional"] + (["multiply", "remove"] if product in listed else [])
        match draw(st.sampled_from(kinds)):
            case "multiply":
                factor = draw(st.sampled_from(["0.9", "2", "0.333333333333"]))
                found.append({"product": product, "multiply": factor})
            case "remove":
                found.append({"product": product, "remove": True})
            case kind:
                price = draw(dated(draw(priced(product, meters))))
                found.append(price | ({"additional": True} if kind == "additional" else {}))
    return found


@st.composite
def contracts(draw: Any, tree: Tree) -> Tree:
    """A contract on a pricebook, with overrides and amendments."""
    products = sorted(tree["products"])
    listed = [p["product"] for p in tree["pricebooks"]["b1"]["prices"]]
    found: Tree = {
        "customer": draw(st.sampled_from(["c1", "c2"])),
        "pricebook": "b1",
        "start": draw(starts),
        "prices": draw(overrides(listed, products, tree["meters"])),
        **draw(maybe(pin=st.booleans(), prorate=st.sampled_from(["days", "seconds"]))),
        **draw(maybe(timezone=st.sampled_from(["Europe/Berlin", "America/New_York"]))),
    }
    if draw(st.booleans()):
        found["end"] = "2026-07-01"
    if draw(st.integers(0, 2)) == 0:
        amended: Tree = {"effective_from": "2026-06-10"}
        amended["prices"] = draw(overrides(listed, products, tree["meters"]))
        both = {p["product"] for p in tree["pricebooks"]["b2"]["prices"]} >= set(listed)
        if both and draw(st.booleans()):
            amended["pricebook"] = "b2"
        found["amendments"] = [amended]
    return found


@st.composite
def shaped_meters(draw: Any) -> Tree:
    """A meter of any aggregation of a value, maybe of sums of windows."""
    shaped: Tree = {"event_type": "v", "value": "data.v"}
    shaped["aggregation"] = draw(st.sampled_from(AGGREGATIONS))
    if shaped["aggregation"] == "percentile":
        shaped["percentile"] = draw(st.sampled_from(["95", "50", "100", "0.5", "33.333333"]))
    if shaped["aggregation"] in WINDOWED and draw(st.booleans()):
        shaped["window"] = draw(st.sampled_from(WINDOWS))
    return shaped


@st.composite
def trees(draw: Any) -> Tree:
    """A document: three meters, four products, two pricebooks, two customers, some contracts."""
    meters = METERS | {"shaped": draw(shaped_meters())}
    products: Tree = {name: {"name": name, "meter": name} for name in meters}
    condition = st.one_of(
        st.just({"in": ["eu", "ü"]}),
        st.just({"not_in": ["eu"], "optional": True}),
    )
    products["summed"] |= draw(maybe(filter=st.fixed_dictionaries({"region": condition})))
    products["fee"] = {"name": "fee"}
    names = sorted(products)
    tree: Tree = {
        "meters": {name: body | {"dimensions": DIMENSIONS} for name, body in meters.items()},
        "products": products,
        "pricebooks": {book: draw(pricebooks(names, meters)) for book in ("b1", "b2")},
        "customers": {
            "c1": {"name": "c1", "subjects": ["s1", {"subject": "s2", "until": "2026-01-15"}]},
            "c2": {"name": "c2", "subjects": [{"subject": "s2", "from": "2026-02-01"}]},
        },
    }
    tree["contracts"] = {f"k{n}": draw(contracts(tree)) for n in range(draw(st.integers(1, 2)))}
    return tree


def catalog_from(tree: Tree) -> Catalog:
    """The catalog a tree makes; its calendar is not UTC."""
    return plan(Catalog(timezone=ZoneInfo("Asia/Kathmandu")), parse_document(tree)).catalog


values = st.one_of(
    st.integers(0, 40).map(Decimal),
    st.integers(-5_000, 60_000).map(lambda n: Decimal(n).scaleb(-3)),
    st.just(Decimal("99999999999999999.999999999")),
)


costs = st.one_of(st.none(), values)


@st.composite
def events(draw: Any) -> list[Event]:
    """Some readings of the three meters, anywhere in the year."""
    found = []
    for n in range(draw(st.integers(4, 24))):
        micros = to_micros(START) + draw(st.integers(0, 220 * 86_400)) * 1_000_000
        named = draw(maybe(region=st.sampled_from(REGIONS), model=st.sampled_from(MODELS)))
        meter = draw(st.sampled_from(["summed", "summed", "counted", "shaped"]))
        found.append(
            Event(
                meter=meter,
                subject=draw(st.sampled_from(["s1", "s2", "stranger"])),
                time=micros,
                received_at=micros + 1 + n,
                value=None if meter == "counted" else draw(values),
                cost=draw(costs),
                dimensions=tuple(sorted(named.items())),
            )
        )
    return found


def facts_of(catalog: Catalog, found: list[Event]) -> pl.DataFrame:
    """FACTS of the events, in their order; each is read by its own meter only."""
    rows = []
    for seq, event in enumerate(found, start=1):
        meter = catalog.meters[MeterId(event.meter)].last
        spec = meter.fact_spec
        fact = {
            "node": "n1",
            "seq": seq,
            "spec": spec.id,
            "subject": event.subject,
            "time": to_datetime(event.time),
            "received_at": to_datetime(event.received_at),
            "value": None if spec.as_text else event.value,
            "text": None if not spec.as_text else plain(event.value),
            "dimensions": dimensions_text(dict(event.dimensions)),
        }
        cost = {"spec": meter.reading("data.cost").id, "value": event.cost, "text": None}
        rows += [fact, fact | cost]
    return pl.DataFrame(rows, schema=FACTS, orient="row")


def source_of(catalog: Catalog, found: list[Event]) -> MemoryFactSource:
    """A fact source that holds the events."""
    return MemoryFactSource(facts_of(catalog, found))


periods = st.sampled_from(
    ["2025", "2026", "2026", "2026", "2026-Q1", "2026-02", "2026-06", "2026-01-31"]
)
as_ofs = st.sampled_from([date(2026, 2, 10), date(2026, 6, 20), date(2027, 1, 1)]).map(
    lambda day: to_micros(datetime(day.year, day.month, day.day, tzinfo=UTC))
)
