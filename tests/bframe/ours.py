"""A business as Tallyman's catalog and events say it, and what rating makes of them.

bframe's rows become one document, applied again when rows with a later ``created_at`` say
otherwise. What needs a word:

- An iteration of a contract is a version of it; one that is void has no prices.
- Periods are whole calendar months from the month a contract begins in: ``anchor: month``.
- A start period is ``after_months``, an end period ``to_period``. Where a price ends inside one of
  its periods, or names its own start or end, it is a contract of its own (of the same customer).
- An event is sent under its customer or its alias; both are subjects the customer claims.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from catalog.changes import plan
from catalog.clock import to_micros
from catalog.events import RECORDS, RecordKind
from catalog.grammar import parse_document
from catalog.history import Statement, build_catalog
from catalog.ids import NodeId
from catalog.periods import PeriodSpec
from catalog.snapshot import Catalog
from ingest.extract import extract_facts, specs_of
from rating.pipeline import rate
from rating.support import unsupported
from storage.memory.facts import MemoryFactSource
from tests.bframe.business import ONE_TIME, RANGE, Business, Row, months_on

Tree = dict[str, Any]
Invoices = dict[tuple[str, str, str, str | None], list[tuple[int, Fraction, Fraction]]]

UTC = ZoneInfo("UTC")
NODE = NodeId("n1")
YEARS = ("2022", "2023", "2024", "2025", "2026")
TIMINGS = {"ARREARS": "arrears", "ADVANCED": "advance", "ONE_TIME": "once"}
DELIVERIES = {ours: theirs for theirs, ours in TIMINGS.items()}
PLAIN = {"timing": "arrears", "every_months": "1"}
PERIOD = ("started_at", "ended_at", "start_period", "end_period")


def invoices(business: Business, known: str) -> Invoices:
    """What Tallyman bills, as known at an instant: (product, quantity, amount) by invoice."""
    as_of = to_micros(datetime.fromisoformat(known))
    catalog = build_catalog(
        [stated for stated in _statements(business) if stated.recorded_at <= as_of], timezone=UTC
    )
    facts = extract_facts(_records(business), list(specs_of(catalog).values()), node=NODE)
    found: Invoices = defaultdict(list)
    for year in YEARS:
        rated = rate(
            catalog, period=PeriodSpec.parse(year), source=MemoryFactSource(facts), as_of=as_of
        )
        rows = zip(
            rated.lines.iter_rows(named=True), rated.billing.iter_rows(named=True), strict=True
        )
        for line, billing in rows:
            start, end = _day(billing["billing_start"]), _day(billing["billing_end"])
            if start >= RANGE[1][:10]:
                continue
            contract = line["contract"].partition(".")[0]
            key = (contract, DELIVERIES[line["timing"]], start, end)
            amounts = Fraction(line["quantity"]), Fraction(line["amount"])
            found[key].append((int(line["product"]), *amounts))
    return {key: sorted(lines) for key, lines in found.items()}


def _day(moment: datetime | None) -> Any:
    return None if moment is None else moment.date().isoformat()


def _statements(business: Business) -> Iterator[Statement]:
    """What is recorded when: the document of each instant at which a row was created."""
    rows = [row for held in business.tables.values() for row in held]
    catalog, revision = Catalog(timezone=UTC), 0
    for created in sorted({row["created_at"] for row in rows}):
        now = to_micros(datetime.fromisoformat(created))
        document = parse_document(document_of(business, created))
        planned = plan(catalog, document, unsupported=unsupported, prune=True, now=now)
        for new in planned.statements:
            revision += 1
            yield Statement(
                revision=revision,
                kind=new.kind,
                id=new.id,
                recorded_at=now,
                retired=new.retired,
                whole_chain=new.whole_chain,
                versions=new.versions,
            )
        catalog = planned.catalog


def _records(business: Business) -> pl.DataFrame:
    """Its events as the log has them."""
    events = sorted(business.events, key=lambda event: event["received_at"])
    rows = [
        {
            "seq": seq,
            "received_at": datetime.fromisoformat(event["received_at"])
            + timedelta(microseconds=seq),
            "kind": RecordKind.EVENT.value,
            "source": "bframe",
            "id": event["transaction_id"],
            "type": json.loads(event["properties"])["name"],
            "subject": event["customer_id"] or event["customer_alias"],
            "time": datetime.fromisoformat(event["metered_at"]),
            "time_given": True,
            "data": event["properties"],
        }
        for seq, event in enumerate(events, start=1)
    ]
    return pl.DataFrame(rows, schema=RECORDS)


def document_of(business: Business, known: str) -> Tree:
    """The rows known at an instant as one document."""
    told = _Told(business, known)
    return {
        "meters": {f"m{row['id']}": _meter(row) for row in told.metered},
        "products": {
            str(row["id"]): {"name": row["name"]}
            | ({"meter": f"m{row['id']}"} if row in told.metered else {})
            for row in told.products.values()
        },
        "customers": dict(told.customers()),
        "pricebooks": dict(told.pricebooks()),
        "contracts": dict(told.contracts()),
    }


def _meter(row: Row) -> Tree:
    meter: Tree = {"event_type": row["event_name"], "aggregation": "count"}
    if row["agg_property"]:
        meter |= {"aggregation": "sum", "value": _path(row["agg_property"])}
    filters = {}
    for condition in json.loads(row["filters"] or "{}").values():
        kind = "_in" if "_in" in condition else "not_in"
        told: Tree = {kind.removeprefix("_"): [str(value) for value in condition[kind]]}
        if condition["optional"]:
            told["optional"] = "true"
        filters[_path(condition["path"])] = told
    return meter | ({"filter": filters} if filters else {})


def _path(path: str) -> str:
    return f"data.{path.removeprefix('$.')}"


class _Told:
    """The rows known at an instant, and what our document says of them."""

    def __init__(self, business: Business, known: str) -> None:
        self.business, self.known = business, known
        self.products = {row["id"]: row for row in business.known("products", known)}
        self.metered = [row for row in self.products.values() if row["ptype"] == "EVENT"]
        self.books = business.known("pricebooks", known)
        self.listed = business.known("list_prices", known)
        self.words = business.known("contract_prices", known)
        self.rows = business.known("contracts", known)

    def customers(self) -> Iterator[tuple[str, Tree]]:
        claims: defaultdict[str, list[Tree]] = defaultdict(list)
        for row in self.business.known("customers", self.known):
            for alias in json.loads(row["ingest_aliases"]):
                held = {"from": row["effective_at"], "until": row["ineffective_at"]}
                stated = {key: moment for key, moment in held.items() if moment}
                claims[row["durable_id"]].append({"subject": alias, **stated})
        for durable, subjects in claims.items():
            yield durable, {"name": durable, "subjects": [durable, *subjects]}

    def pricebooks(self) -> Iterator[tuple[str, Tree]]:
        for durable in sorted({book["durable_id"] for book in self.books}):
            versions = [
                _dated(self._book(book), book, "effective_at", "ineffective_at")
                for book in self.books
                if book["durable_id"] == durable
            ]
            yield durable, versions[0] if len(versions) == 1 else {"versions": versions}

    def _book(self, book: Row) -> Tree:
        prices = [
            self._listed(price, book)
            for price in self.listed
            if price["pricebook_uid"] == book["id"]
        ]
        found: Tree = {"currency": "USD", "prices": prices}
        found["invoicing"] = _invoicing((book,))
        return found | ({"prorate": "days"} if book["prorate"] else {})

    def _listed(self, price: Row, book: Row) -> Tree:
        """A list price; what it does not say of prorating is the contract's to say."""
        return self._price((price, book | {"prorate": None}))

    # -- contracts ------------------------------------------------------------------------------

    def contracts(self) -> Iterator[tuple[str, Tree]]:
        for durable in sorted({row["durable_id"] for row in self.rows}):
            rows = sorted(
                (row for row in self.rows if row["durable_id"] == durable),
                key=lambda row: row["effective_at"],
            )
            yield durable, _versions([(row, self._contract(row)) for row in rows], rows[0])
            yield from self._apart(durable, rows)

    def _contract(self, row: Row) -> Tree:
        """One iteration: its pricebook, and what it says of the prices there."""
        if row["void"]:
            return {"currency": "USD", "invoicing": PLAIN}
        prices = []
        for sources, book in self._prices(row):
            listed = "list_price_uid" not in sources[0] or sources[0]["list_price_uid"]
            if _is_apart(row, sources):
                prices += [_removed(sources)] if listed else []
            elif not listed:
                prices.append(self._price((*sources, row)) | {"additional": True})
            elif len(sources) > 2 or None not in (row["prorate"], sources[0]["prorate"]):
                price = self._price(_in_order(row, sources))
                price = _dated(price, book, "effective_at", "ineffective_at")
                prices.append(price | {"overrides": sources[0]["slot"]})
        found: Tree = {"pricebook": row["pricebook_id"], "prices": _once_each(prices)}
        if row["prorate"] is not None:
            found["prorate"] = "days" if row["prorate"] else "false"
        return found

    def _prices(self, row: Row) -> Iterator[tuple[tuple[Row, ...], Row]]:
        """Every price of an iteration as its sources, the first that says something counts."""
        for book in self.books:
            if book["durable_id"] == row["pricebook_id"]:
                for price in self.listed:
                    if price["pricebook_uid"] == book["id"]:
                        word = [w for w in self._words(row) if w["list_price_uid"] == price["id"]]
                        yield (*word, price, book), book
        for word in self._words(row):
            if word["list_price_uid"] is None:
                yield (word,), {}

    def _words(self, row: Row) -> list[Row]:
        return [word for word in self.words if word["contract_uid"] == row["id"]]

    def _apart(self, durable: str, rows: list[Row]) -> Iterator[tuple[str, Tree]]:
        """A contract for every price with a term of its own."""
        terms: defaultdict[tuple[Any, ...], dict[int, list[Tree]]] = defaultdict(dict)
        for row in rows:
            for sources, book in self._prices(row):
                if _is_apart(row, sources):
                    start, end = _term(row, sources)
                    plain = [{k: v for k, v in s.items() if k not in PERIOD} for s in sources]
                    price = self._price(_in_order(row, tuple(plain)))
                    price = _dated(price, book, "effective_at", "ineffective_at")
                    held = terms[sources[0]["slot"], start, end].setdefault(row["id"], [])
                    held += [] if row["void"] else [price | {"additional": True}]
        for number, ((_, start, end), prices) in enumerate(sorted(terms.items(), key=str)):
            term = {"started_at": start, "ended_at": end, "customer_id": rows[0]["customer_id"]}
            if end is not None and start >= end:
                continue
            stated = [
                (row, {"currency": "USD", "invoicing": PLAIN, "prices": prices.get(row["id"], [])})
                for row in rows
            ]
            yield f"{durable}.{number}", _versions(stated, term)

    def _price(self, sources: tuple[Row, ...]) -> Tree:
        """A price from its sources, of which the first that says something counts."""
        first = _First(sources)
        product = self.products[first["product_uid"]]
        price: Tree = {
            "product": str(product["id"]),
            "id": first["slot"],
            "invoicing": _invoicing(sources),
        }
        if first["invoice_delivery"] != ONE_TIME and first["end_period"] is not None:
            months = first["end_period"] - (first["start_period"] or 0)
            # one that ends within its first period is removed by every contract: see _is_apart
            price["to_period"] = str(max(1, months // first["invoice_schedule"]))
        if product["ptype"] == "EVENT":
            price["charge"] = {"model": "per_unit", "unit_price": first["price"]}
            return price | {"prorate": "false"}  # what it would share, usage here has none of
        price["charge"] = {"model": "flat", "amount": first["price"]}
        if first["fixed_quantity"] is not None:
            price["quantity"] = first["fixed_quantity"]
        stated = next((s["prorate"] for s in sources if s["prorate"] is not None), None)
        return price | ({} if stated is None else {"prorate": "days" if stated else "false"})


class _First:
    """The first of several rows that says something of a column."""

    def __init__(self, sources: tuple[Row, ...]) -> None:
        self.sources = [source for source in sources if "customer_id" not in source]

    def __getitem__(self, key: str) -> Any:
        return next((s[key] for s in self.sources if s.get(key) is not None), None)


def _invoicing(sources: tuple[Row, ...]) -> Tree:
    first = _First(sources)
    months, after = first["invoice_schedule"], first["start_period"] or 0
    found = {"timing": TIMINGS[first["invoice_delivery"]], "anchor": "month"}
    if first["invoice_delivery"] == ONE_TIME:
        after += months
    else:
        found["every_months"] = str(months)
    return found | ({"after_months": str(after)} if after else {})


def _in_order(row: Row, sources: tuple[Row, ...]) -> tuple[Row, ...]:
    """A contract's own word on a price comes before its iteration's, the list's after it."""
    words = 1 if "contract_uid" in sources[0] else 0
    return (*sources[:words], row, *sources[words:])


def _is_apart(row: Row, sources: tuple[Row, ...]) -> bool:
    """Whether a price has a term that our periods do not say: a start or end inside a period."""
    first = _First(sources)
    if first["started_at"] or first["ended_at"]:
        return True
    if first["end_period"] is None:
        return False
    if first["invoice_delivery"] == ONE_TIME:
        return True
    months = first["end_period"] - (first["start_period"] or 0)
    return bool(months % first["invoice_schedule"]) or not months // first["invoice_schedule"]


def _term(row: Row, sources: tuple[Row, ...]) -> tuple[str, str | None]:
    """When a price starts and ends by itself."""
    first = _First(sources)
    started = date.fromisoformat(row["started_at"][:10])

    def on(key: str) -> str | None:
        count = first[key]
        return None if count is None else f"{months_on(started, count)}T00:00:00+00:00"

    ends = first["ended_at"] or on("end_period"), row["ended_at"]
    return (
        first["started_at"] or on("start_period") or row["started_at"],
        min((end for end in ends if end), default=None),
    )


def _removed(sources: tuple[Row, ...]) -> Tree:
    first = _First(sources)
    return {"product": str(first["product_uid"]), "overrides": first["slot"], "remove": True}


def _once_each(prices: list[Tree]) -> list[Tree]:
    """One removal a list price, however many versions its pricebook has."""
    return [price for place, price in enumerate(prices) if price not in prices[:place]]


def _dated(body: Tree, row: Row, since: str, until: str) -> Tree:
    dates = {"effective_from": row.get(since), "effective_until": row.get(until)}
    return body | {key: moment for key, moment in dates.items() if moment}


def _versions(stated: list[tuple[Row, Tree]], term: Row) -> Tree:
    """A contract of one customer and term, with what each iteration says from its day on."""
    same = {"customer": term["customer_id"], "start": term["started_at"]}
    same |= {"end": term["ended_at"]} if term["ended_at"] else {}
    bodies = [same | body for _, body in stated]
    if len(stated) == 1:
        return bodies[0]
    later = [
        body | {"effective_from": row["effective_at"]}
        for (row, _), body in zip(stated[1:], bodies[1:], strict=True)
    ]
    return {"versions": [bodies[0], *later]}
