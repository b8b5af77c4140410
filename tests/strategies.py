"""Hypothesis strategies for catalogs: numbers, charges, objects, whole consistent documents.

``catalog_trees()`` gives JSON trees as a caller would send them, ``catalogs()`` the catalog such
a tree makes. Everything they give passes every check; break one thing to test a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from catalog.changes import plan
from catalog.clock import Micros
from catalog.grammar import parse_document
from catalog.history import Statement, build_catalog
from catalog.moments import moment_text
from catalog.money import PRICE, QUANTITY, from_units, parse_decimal, plain
from catalog.snapshot import Catalog

Tree = dict[str, Any]
Draw = st.DrawFn

UTC_ZONE = ZoneInfo("UTC")
CURRENCIES = ("USD", "EUR", "JPY", "KWD")
DIMENSIONS = ("model", "region")
WORDS = ("a", "b", "eu", "gpt-4", "1", "true", "ü/~")

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,12}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: len(text.encode()) <= 200
)
words = st.sampled_from(WORDS)
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
dates = st.dates(date(2025, 1, 1), date(2027, 12, 31))
instants = st.integers(0, 1_000 * 86_400).map(
    lambda seconds: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
moments = st.one_of(dates, instants)


def decimals(least: int = 0, *, digits: int = 12, places: int = 9) -> st.SearchStrategy[str]:
    """Plain text from ``least`` on: up to ``digits`` whole digits and ``places`` decimals."""
    scales = st.integers(0, places)
    return scales.flatmap(
        lambda scale: st.integers(least * 10**scale, 10 ** (digits + scale) - 1).map(
            lambda units: plain(from_units(units, scale))
        )
    )


quantities = decimals(digits=9)
positive = decimals(1, digits=6, places=3)
amounts = decimals(digits=9, places=2)
unit_prices = st.one_of(
    decimals(digits=3, places=12), decimals(digits=3, places=2).map(lambda text: f"-{text}")
).map(lambda text: plain(parse_decimal(text, PRICE)))
percents = st.integers(0, 10_000).map(lambda units: plain(from_units(units, 2)))


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    """A mapping with any of ``fields``."""
    return st.fixed_dictionaries({}, optional=fields)


def record(
    needed: Mapping[str, Any], **optional: st.SearchStrategy[Any]
) -> st.SearchStrategy[Tree]:
    """A mapping with all of ``needed`` (strategies or plain values) and any of ``optional``."""
    fixed = {
        key: held if isinstance(held, st.SearchStrategy) else st.just(held)
        for key, held in needed.items()
    }
    return st.fixed_dictionaries(fixed, optional=optional)


@st.composite
def tiers(
    draw: Draw, fields: st.SearchStrategy[Tree], *, open_last: bool | None = None
) -> list[Tree]:
    """1 to 4 tiers in ascending order; the last open, unless drawn (or told) otherwise."""
    steps = draw(st.lists(positive, min_size=1, max_size=4))
    bound, found = Decimal(0), []
    for size in steps:
        bound += Decimal(size)
        found.append({"up_to": plain(parse_decimal(plain(bound), QUANTITY)), **draw(fields)})
    if draw(st.booleans()) if open_last is None else open_last:
        del found[-1]["up_to"]
    return found


_priced_tier = st.one_of(
    record({"unit_price": unit_prices}, flat_fee=unit_prices, package_size=positive),
    record({"flat_fee": unit_prices}, maximum=amounts),
)
_beyond = st.sampled_from(["refuse", "free"])

flat_charges = record({"model": "flat", "amount": unit_prices})
per_unit_charges = record({"model": "per_unit", "unit_price": unit_prices})
package_charges = record(
    {"model": "package", "size": positive, "package_price": unit_prices}, free_units=quantities
)
tiered_charges = record(
    {"model": st.sampled_from(["graduated", "volume"]), "tiers": tiers(_priced_tier)},
    flat_fee_when_unused=st.booleans(),
    beyond=_beyond,
)
stairstep_charges = record(
    {"model": "stairstep", "tiers": tiers(record({"flat_fee": unit_prices}))},
    cumulative=st.booleans(),
)
graduated_percentage_charges = record(
    {
        "model": "graduated_percentage",
        "tiers": tiers(record({"percent": percents}, flat_fee=unit_prices)),
    }
)
percentage_charges = record(
    {"model": "percentage", "percent": percents},
    fixed=unit_prices,
    free_units=quantities,
    free_events=st.integers(0, 1_000),
    event_minimum=st.just("0.05"),
    event_maximum=st.just("7"),
)
dynamic_charges = record({"model": "dynamic", "amount": "data.cost"}, multiplier=positive)
simple_charges = st.one_of(
    per_unit_charges,
    package_charges,
    tiered_charges,
    stairstep_charges,
    graduated_percentage_charges,
    percentage_charges,
)


@st.composite
def matrix_charges(draw: Draw) -> Tree:
    """Rows that name both dimensions, rows that name one of them alone, never two that tie."""
    pairs = draw(st.lists(st.tuples(words, words), min_size=1, max_size=4, unique=True))
    models = draw(st.lists(words, max_size=3, unique=True))
    whens = [dict(zip(DIMENSIONS, pair, strict=True)) for pair in pairs]
    whens += [{"model": model, **draw(maybe(region=st.just("*")))} for model in models]
    rows: list[Tree] = []
    for when in whens:
        price = st.one_of(record({"unit_price": unit_prices}), record({"charge": simple_charges}))
        rows.append({"when": when, **draw(price)})
    return {"model": "matrix", "rows": rows, **draw(maybe(otherwise=_beyond))}


@st.composite
def capacity_charges(draw: Draw, meter: str) -> Tree:
    """Plans by how much of one meter they hold."""
    found = [
        {"up_to": {meter: tier["up_to"]} if "up_to" in tier else None, "amount": tier["amount"]}
        for tier in draw(tiers(record({"amount": unit_prices})))
    ]
    return {"model": "capacity", "tiers": found}


_every = st.sampled_from(["every_months", "every_weeks", "every_days"])


@st.composite
def invoicings(draw: Draw, *, timings: tuple[str, ...] = ("arrears", "once")) -> Tree:
    """How something is billed; metered prices may not be in advance."""
    found: Tree = {"timing": draw(st.sampled_from(timings))}
    if found["timing"] != "once":
        found[draw(_every)] = draw(st.integers(1, 13))
    more = maybe(anchor=st.sampled_from(["contract", "calendar"]), after_months=st.integers(0, 3))
    return found | draw(more)


_rounding = record({"round": st.sampled_from(["up", "down", "half_up"])}, digits=st.integers(0, 9))
conversions = st.tuples(
    st.one_of(record({"divide": positive}), record({"multiply": positive})),
    st.one_of(st.just({}), st.just({"round": "none"}), _rounding),
).map(lambda parts: parts[0] | parts[1])
price_commitments = st.one_of(
    record({"quantity": positive}, overage_multiplier=positive, true_up=st.booleans()),
    record({"amount": amounts}, true_up=st.booleans()),
)
_terms: dict[str, st.SearchStrategy[Any]] = {
    "name": texts,
    "discount_percent": percents,
    "prorate": st.sampled_from([False, "days", "seconds"]),
    "from_period": st.integers(1, 6),
    "to_period": st.integers(6, 12),
    "minimum": st.just("1.50"),
    "maximum": amounts.filter(lambda text: Decimal(text) >= 2),
    "effective_from": st.just("2025-06-01"),
    "effective_until": st.just("2027-06-01T12:00:00.5Z"),
}


def prices(product: Tree) -> st.SearchStrategy[Tree]:
    """Prices that fit one of the products of :func:`catalog_trees`."""
    if "meter" not in product:
        fixed = record({"charge": flat_charges}, invoicing=invoicings(timings=("advance", "once")))
        bought = record({"charge": simple_charges, "quantity": quantities})
        return st.tuples(st.one_of(fixed, bought), maybe(**_terms)).map(lambda p: p[0] | p[1])
    charges = st.one_of(
        simple_charges, matrix_charges(), dynamic_charges, capacity_charges(product["meter"])
    )
    metered = record(
        {"charge": charges},
        group_by=st.sampled_from([["model"], ["region", "model"]]),
        included=quantities,
        invoicing=invoicings(),
        convert=conversions,
        bucket=st.sampled_from(["5m", "60m", "1d"]),
        hours=st.sampled_from([["00:00-06:00"], ["22:00-24:00", "06:30-07:00"]]),
        tiers_span=st.just({"every_months": 12}),
        commitment=price_commitments,
    )
    return st.tuples(metered, maybe(**_terms)).map(lambda parts: parts[0] | parts[1])


@st.composite
def meters(draw: Draw) -> Tree:
    """A meter with the dimensions :data:`DIMENSIONS`."""
    names = ["count", "sum", "min", "max", "average", "latest", "unique_count", "percentile"]
    aggregation = draw(st.sampled_from([*names, "weighted_sum"]))
    found: Tree = {
        "event_type": draw(st.one_of(texts, st.lists(texts, min_size=1, max_size=3, unique=True))),
        "aggregation": aggregation,
        "dimensions": {name: f"data.{name}" for name in DIMENSIONS},
    }
    if aggregation != "count":
        found["value"] = draw(st.sampled_from(["data.tokens", "data.usage.in"]))
    if aggregation == "percentile":
        found["percentile"] = draw(st.sampled_from(["95", "99.9", "100", "0.5"]))
    if aggregation not in {"count", "unique_count"}:
        found |= draw(maybe(window=st.sampled_from(["5m", "1h", "24h"])))
    listed = st.lists(words, min_size=1, max_size=3, unique=True)
    condition = st.one_of(
        record({"in": listed}, optional=st.booleans()),
        record({"not_in": listed}, optional=st.booleans()),
        st.just({"exists": True}),
    )
    filters = st.dictionaries(st.sampled_from(["data.k", "data.x.y"]), condition, max_size=2)
    return found | draw(maybe(filter=filters))


@st.composite
def products(draw: Draw, meter_ids: list[str]) -> Tree:
    """A product on one of the meters, or none."""
    found: Tree = {"name": draw(texts)}
    if meter_ids and draw(st.booleans()):
        found["meter"] = draw(st.sampled_from(meter_ids))
        listed = st.lists(words, min_size=1, max_size=2, unique=True)
        found |= draw(maybe(filter=st.just({"model": {"in": draw(listed)}})))
    return found


def _grantable(tree: Tree) -> dict[str, Tree]:
    """The features an allowance can be given of: metered ones need a sum or a count."""
    additive = {name for name, m in tree["meters"].items() if m["aggregation"] in {"sum", "count"}}
    return {
        name: f for name, f in tree["features"].items() if f.get("meter", "") in additive | {""}
    }


def entitlements(features: Mapping[str, Tree]) -> st.SearchStrategy[list[Tree]]:
    """Up to three entitlements to ``features``."""
    kinds = {name: body["kind"] for name, body in features.items()}
    granted = record({"amount": quantities}, priority=st.integers(-3, 9))
    renewed = record(
        {"amount": quantities, "every": st.sampled_from(["month", {"every_months": 3}])},
        rollover_max=quantities,
        anchor=st.sampled_from(["contract", "calendar"]),
    )
    limit = maybe(limit=st.sampled_from(["hard", "soft"]))
    forms = {
        "metered": st.one_of(granted, renewed, st.just({"unlimited": True})),
        "boolean": st.just({"value": True}),
        "static": record({"value": words}),
    }
    if not kinds:
        return st.just([])
    one = st.sampled_from(sorted(kinds)).flatmap(
        lambda name: st.tuples(forms[kinds[name]], limit).map(
            lambda parts: {"feature": name, **parts[0], **parts[1]}
        )
    )
    return st.lists(one, max_size=3)


@st.composite
def pricebooks(draw: Draw, goods: Mapping[str, Tree], features: Mapping[str, Tree]) -> Tree:
    """A pricebook with up to four prices, each with an id of its own or none."""
    found = []
    for index, name in enumerate(draw(st.lists(st.sampled_from(sorted(goods)), max_size=4))):
        price = {"product": name, **draw(prices(goods[name]))}
        found.append(price | draw(maybe(id=st.just(f"price-{index}"))))
    return {
        "currency": draw(st.sampled_from(CURRENCIES)),
        "invoicing": draw(invoicings()),
        "prices": found,
        **draw(maybe(prorate=st.sampled_from(["days", "seconds"]))),
        **draw(maybe(entitlements=entitlements(features))),
    }


@st.composite
def customers(draw: Draw, name: str, elder: list[str]) -> Tree:
    """A customer whose subjects nobody else claims; a parent among ``elder``."""
    claim = record({"subject": f"{name}-dated"}, **{"from": st.just("2025-03-01")})
    found: Tree = {
        "name": draw(texts),
        "subjects": [f"{name}-{n}" for n in range(draw(st.integers(0, 3)))],
        **draw(maybe(entity=texts, external_ids=st.dictionaries(texts, words, max_size=2))),
        **draw(maybe(metadata=st.dictionaries(texts, texts, max_size=2))),
    }
    if draw(st.booleans()):
        found["subjects"].append(draw(claim))
    if elder and draw(st.booleans()):
        found["parent"] = draw(st.sampled_from(elder))
    return found


@st.composite
def contracts(draw: Draw, tree: Tree) -> Tree:
    """A contract of one of the tree's customers, with or without a pricebook."""
    start = draw(moments)
    later = [start + timedelta(days=days) for days in (30, 90, 365)]
    goods = sorted(tree["products"])
    scope = st.lists(st.sampled_from(goods), min_size=1, max_size=2, unique=True)
    found: Tree = {"customer": draw(st.sampled_from(sorted(tree["customers"]))), "start": start}
    if tree["pricebooks"] and draw(st.booleans()):
        found["pricebook"] = draw(st.sampled_from(sorted(tree["pricebooks"])))
        found |= draw(maybe(pin=st.booleans()))
        listed = sorted({p["product"] for p in tree["pricebooks"][found["pricebook"]]["prices"]})
        change = draw(maybe(multiply=positive, remove=st.just(True))) if listed else {}
        if len(change) == 1:
            found["prices"] = [{"product": listed[0], **change}]
    else:
        found |= {"currency": draw(st.sampled_from(CURRENCIES)), "invoicing": draw(invoicings())}
    if draw(st.booleans()):
        name = draw(st.sampled_from(goods))
        own = {"product": name, **draw(prices(tree["products"][name]))}
        added = [own | draw(maybe(additional=st.booleans()))]
        found["prices"] = [*found.get("prices", []), *added]
    found |= draw(_contract_terms(scope, later, entitlements(_grantable(tree))))
    return _moments_as_text(found)


def _contract_terms(
    scope: st.SearchStrategy[list[str]],
    later: list[Any],
    rights: st.SearchStrategy[list[Tree]],
) -> st.SearchStrategy[Tree]:
    discount = st.one_of(
        record({"percent": percents}, products=scope, until=st.just(later[1])),
        record({"amount": amounts}, **{"from": st.just(later[0]), "until": st.just(later[1])}),
    )
    commitment = record(
        {"amount": amounts},
        every_months=st.integers(1, 12),
        overage_multiplier=positive,
        true_up=st.booleans(),
        products=scope,
    )
    credit = record(
        {"id": "paid", "amount": amounts}, priority=st.integers(0, 9), expires_at=st.just(later[2])
    )
    amendment = record(
        {"effective_from": later[0]},
        prices=st.just([]),
        discounts=st.lists(discount, max_size=1),
        commitments=st.lists(commitment, max_size=1),
        end=st.just(later[2]),
    )
    return maybe(
        end=st.just(later[2]),
        timezone=zones,
        entity=texts,
        discounts=st.lists(discount, max_size=2),
        minimum=record({"amount": amounts, "every_months": 1}),
        commitments=st.lists(commitment, max_size=1),
        credits=st.lists(credit, max_size=1),
        trial=st.just({"days": 14}),
        entitlements=rights,
        amendments=st.lists(amendment, max_size=1),
    )


def _moments_as_text(tree: Any) -> Any:
    match tree:
        case dict():
            return {key: _moments_as_text(held) for key, held in tree.items()}
        case list():
            return [_moments_as_text(held) for held in tree]
        case date():
            return moment_text(tree)
        case _:
            return tree


@st.composite
def catalog_trees(draw: Draw) -> Tree:
    """A consistent document of every family, as JSON values."""
    kinds = st.sampled_from(
        [{"kind": "metered", "meter": "m0"}, {"kind": "boolean"}, {"kind": "static"}]
    )
    tree: Tree = {
        "meters": {f"m{n}": draw(meters()) for n in range(draw(st.integers(1, 3)))},
        "features": {f"f{n}": draw(kinds) for n in range(draw(st.integers(0, 3)))},
        "customers": {},
        "contracts": {},
    }
    tree["products"] = {
        f"p{n}": draw(products(sorted(tree["meters"]))) for n in range(draw(st.integers(1, 4)))
    }
    tree["pricebooks"] = {
        f"b{n}": draw(pricebooks(tree["products"], _grantable(tree)))
        for n in range(draw(st.integers(0, 2)))
    }
    for number in range(draw(st.integers(1, 3))):
        name = f"c{number}"
        tree["customers"][name] = draw(customers(name, sorted(tree["customers"])))
    for number in range(draw(st.integers(0, 3))):
        tree["contracts"][f"k{number}"] = draw(contracts(tree))
    return tree


def catalog_of(tree: Tree, *, recorded_at: int = 0, timezone: ZoneInfo = UTC_ZONE) -> Catalog:
    """The catalog that applying ``tree`` to an empty one makes.

    Raises:
        InvalidDocument: the tree is wrong.
    """
    new = plan(Catalog(timezone=timezone), parse_document(tree)).statements
    return build_catalog(
        (
            Statement(
                revision=revision,
                kind=held.kind,
                id=held.id,
                recorded_at=Micros(recorded_at),
                retired=held.retired,
                whole_chain=held.whole_chain,
                versions=held.versions,
            )
            for revision, held in enumerate(new, start=1)
        ),
        timezone=timezone,
    )


def catalogs(timezone: ZoneInfo = UTC_ZONE) -> st.SearchStrategy[Catalog]:
    """Consistent catalogs of every family."""
    return catalog_trees().map(lambda tree: catalog_of(tree, timezone=timezone))
