"""Random businesses in bframe's own vocabulary: the rows of its tables, and nothing of ours.

Rows carry ``created_at`` and ``version``: system time. :func:`known` is what was known by an
instant, the highest version of each id. Everything else (which price holds when) is for those who
read the rows: :mod:`tests.bframe.ours` and :mod:`tests.bframe.rules`, each for itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from random import Random
from typing import Any

Row = dict[str, Any]

FIRST, SECOND = "2026-01-01T00:00:00+00:00", "2026-06-01T00:00:00+00:00"
KNOWN = (FIRST, SECOND)
"""The instants of system time that are asked about."""
EARLY, LATE = "2025-12-01T00:00:00+00:00", "2026-03-01T00:00:00+00:00"
RANGE = ("2022-12-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00")
TABLES = (
    "customers",
    "products",
    "pricebooks",
    "contracts",
    "list_prices",
    "contract_prices",
)
ARREARS, ADVANCED, ONE_TIME = "ARREARS", "ADVANCED", "ONE_TIME"


@dataclass(kw_only=True)
class Business:
    """The rows of one business by table; ids begin with its number."""

    number: int
    tables: dict[str, list[Row]] = field(default_factory=lambda: {t: [] for t in TABLES})
    events: list[Row] = field(default_factory=list)

    def known(self, table: str, instant: str) -> list[Row]:
        """The rows of a table as known at an instant: of each id the highest version."""
        newest: dict[int, Row] = {}
        for row in self.tables[table]:
            if row["created_at"] <= instant:
                held = newest.setdefault(row["id"], row)
                if row["version"] > held["version"]:
                    newest[row["id"]] = row
        return sorted(newest.values(), key=lambda row: row["id"])

    def received(self, instant: str) -> list[Row]:
        """The events that had been received by then."""
        return [event for event in self.events if event["received_at"] <= instant]


def text(day: date) -> str:
    """A midnight in UTC, as bframe and we read it."""
    return f"{day.isoformat()}T00:00:00+00:00"


def months_on(day: date, months: int) -> date:
    """The first of the month that many months on."""
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def tables_of(businesses: Iterable[Business]) -> dict[str, list[Row]]:
    """Rows of several businesses for one database; ``name`` tags of prices are ours alone."""
    found: dict[str, list[Row]] = {table: [] for table in (*TABLES, "events")}
    for business in businesses:
        for table, rows in business.tables.items():
            found[table] += [{k: v for k, v in row.items() if k != "slot"} for row in rows]
        found["events"] += business.events
    return found


class Maker:
    """Draws one business; the same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.made = Business(number=seed)
        self.count = 0

    def business(self) -> Business:
        """Products, customers, pricebooks, contracts, then what they used."""
        self.products()
        self.customers()
        for number in range(self.draw.choice([1, 1, 2])):
            self.pricebook(f"b{self.made.number}-{number}")
        for number in range(self.draw.choice([1, 1, 2])):
            self.contract(f"k{self.made.number}-{number}")
        self.events()
        return self.made

    # -- drawing ------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return self.draw.random() < share

    def maybe(self, share: float, *values: Any) -> Any:
        return self.draw.choice(values) if self.chance(share) else None

    def day(self, since: date, until: date) -> date:
        """A day in ``[since, until]``, mostly a first of a month."""
        day = since + timedelta(days=self.draw.randint(0, (until - since).days))
        first = months_on(day, 0)
        return first if first >= since and self.chance(0.6) else day

    def decimal(self, low: int, high: int, places: int) -> str:
        """A decimal; now and then finer than bframe's thousandths."""
        places = 5 if self.chance(0.06) else self.draw.randint(0, places)
        number = self.draw.randint(low * 10**places, high * 10**places)
        whole, part = divmod(number, 10**places)
        return f"{whole}.{part:0{places}d}" if places else str(whole)

    # -- rows ---------------------------------------------------------------------------------

    def add(self, table: str, row: Row, **later: Any) -> int:
        """A row, and with ``later`` a second version of it that became known later."""
        self.count += 1
        uid = self.made.number * 1_000 + self.count
        held = {"id": uid, "version": 0, "created_at": EARLY, **row}
        self.made.tables[table].append(held)
        if later:
            self.made.tables[table].append(held | later | {"version": 1, "created_at": LATE})
        return uid

    def products(self) -> None:
        for number in range(self.draw.choice([1, 2, 2])):
            row = self.metered(number)
            later = self.metered(number) if self.chance(0.15) else {}
            self.add("products", row, **later)
        for number in range(self.draw.choice([1, 1, 2])):
            empty = {"event_name": None, "filters": None, "agg_property": None}
            self.add("products", {"name": f"fee {number}", "ptype": "FIXED", **empty})

    def metered(self, number: int) -> Row:
        filters = {}
        for place in range(self.draw.choice([0, 1, 1, 2])):
            path, values = ("$.region", ["eu", "us", "ap"]) if place else ("$.tier", [1, 12, 2])
            chosen = self.draw.sample(values, self.draw.randint(1, 2))
            filters[f"f{place}"] = {
                "path": path,
                self.draw.choice(["_in", "not_in"]): chosen,
                "optional": self.chance(0.3),
            }
        return {
            "name": f"usage {number}",
            "ptype": "EVENT",
            "event_name": f"e{self.made.number}-{self.draw.randint(0, 1)}",
            "filters": _json(filters) if filters else None,
            "agg_property": self.maybe(0.7, "$.n", "$.n", "$.m"),
        }

    def customers(self) -> None:
        """Two payers; an alias may move from one to the other on a day."""
        name = f"c{self.made.number}"
        moved = text(self.day(date(2023, 6, 1), date(2024, 9, 1)))
        for durable, aliases, since, until in (
            (f"{name}-0", [f"{name}-x", f"{name}-moves"], None, moved),
            (f"{name}-0", [f"{name}-x"], moved, None),
            (f"{name}-1", [f"{name}-y"], None, None),
            (f"{name}-1", [f"{name}-moves"], moved, None),
        ):
            row = {"name": durable, "durable_id": durable, "ingest_aliases": _json(aliases)}
            self.add("customers", row | {"effective_at": since, "ineffective_at": until})

    def pricebook(self, durable: str) -> None:
        """A pricebook, maybe replaced by another on a day."""
        defaults = {
            "name": durable,
            "durable_id": durable,
            "prorate": self.maybe(0.7, True, False),
            "invoice_delivery": self.draw.choice([ARREARS, ARREARS, ADVANCED]),
            "invoice_schedule": self.draw.choice([1, 1, 2, 3, 12]),
        }
        listed = [
            self.list_price(f"{durable}.{n}", defaults) for n in range(self.draw.randint(1, 3))
        ]
        cut = text(self.day(date(2023, 3, 1), date(2024, 12, 1))) if self.chance(0.35) else None
        for since, until in [(None, cut), (cut, None)] if cut else [(None, None)]:
            book = self.add(
                "pricebooks", defaults | {"effective_at": since, "ineffective_at": until}
            )
            for price in listed:
                stated = dict(price)
                if since and self.chance(0.7):
                    stated["price"] = self.decimal(0, 20, 3)
                later = {"price": self.decimal(0, 20, 3)} if self.chance(0.15) else {}
                self.add("list_prices", stated | {"pricebook_uid": book}, **later)

    def list_price(self, slot: str, defaults: Row) -> Row:
        """A list price; metered ones are never billed in advance (we refuse it)."""
        product = self.draw.choice(self.made.tables["products"])
        price = {"slot": slot, "product_uid": product["id"], **self.terms(product)}
        if product["ptype"] == "EVENT" and not price["invoice_delivery"]:
            price["invoice_delivery"] = ARREARS
        price["invoice_delivery"] = price["invoice_delivery"] or self.maybe(
            0.5, defaults["invoice_delivery"]
        )
        return price | {"prorate": self.maybe(0.4, True, False)}

    def terms(self, product: Row) -> Row:
        """Price, cadence, periods and quantity."""
        deliveries = [ARREARS, ARREARS, ONE_TIME]
        deliveries += [ADVANCED, ADVANCED] if product["ptype"] == "FIXED" else []
        start, delivery = self.maybe(0.2, 1, 2, 3), self.maybe(0.6, *deliveries)
        least = [0, 0, 0, 0] if delivery == ONE_TIME else []
        return {
            "price": self.decimal(0, 20, 3),
            "invoice_delivery": delivery,
            "invoice_schedule": self.maybe(0.6, *least, 1, 1, 2, 3, 4, 6, 12),
            "start_period": start,
            "end_period": self.maybe(0.2, *((start or 0) + n for n in (1, 2, 3, 4, 6))),
            "fixed_quantity": self.maybe(0.4, "2", "7", "0.5", "0"),
        }

    def contract(self, durable: str) -> None:
        """A contract, maybe with further iterations that take over on a day."""
        started = self.day(date(2023, 1, 1), date(2024, 6, 30))
        ended = self.day(started + timedelta(days=40), started + timedelta(days=500))
        open_ended = self.chance(0.1)
        cuts = {self.day(started + timedelta(days=1), ended - timedelta(days=1))
                for _ in range(self.draw.choice([0, 0, 1, 1, 2]))}  # fmt: skip
        edges = [started, *sorted(cuts - {started}), ended]
        books = sorted({row["durable_id"] for row in self.made.tables["pricebooks"]})
        book, customer = self.draw.choice(books), self.draw.choice([0, 0, 1])
        own: list[Row] = []
        changed: dict[str, Row] = {}
        for since, until in pairwise(edges):
            last = until == ended
            row = {
                "durable_id": durable,
                "customer_id": f"c{self.made.number}-{customer}",
                "pricebook_id": book if self.chance(0.9) else self.draw.choice(books),
                "prorate": self.maybe(0.5, True, False),
                "started_at": text(started),
                "ended_at": None if open_ended else text(ended),
                "effective_at": text(since),
                "ineffective_at": None
                if last and (open_ended or self.chance(0.5))
                else text(until),
                "void": False,
                "voided_at": None,
            }
            later = {"void": True, "voided_at": LATE} if self.chance(0.05) else {}
            uid = self.add("contracts", row, **later)
            self.contract_prices(uid, row, own, changed)

    def contract_prices(self, uid: int, row: Row, own: list[Row], changed: dict[str, Row]) -> None:
        """What this iteration says about list prices, and prices of its own."""
        books = {
            b["id"]
            for b in self.made.tables["pricebooks"]
            if b["durable_id"] == row["pricebook_id"]
        }
        for price in self.made.known("list_prices", EARLY):
            if price["pricebook_uid"] in books and self.chance(0.3):
                slot = price["slot"]
                if slot not in changed or self.chance(0.4):
                    changed[slot] = self.change(price)
                held = changed[slot] | {"contract_uid": uid, "list_price_uid": price["id"]}
                self.add("contract_prices", held | {"product_uid": price["product_uid"]})
        if not own or self.chance(0.3):
            own[:] = [
                self.own_price(f"own{n}", row) for n in range(self.draw.choice([0, 0, 1, 1, 2]))
            ]
        for price in own:
            later = {"price": self.decimal(0, 20, 3)} if self.chance(0.1) else {}
            self.add("contract_prices", price | {"contract_uid": uid}, **later)

    def change(self, listed: Row) -> Row:
        """A contract's word on a list price: what it leaves out stays."""
        return {
            "slot": listed["slot"],
            "price": self.maybe(0.8, self.decimal(0, 20, 3)),
            "invoice_delivery": None,
            "invoice_schedule": self.maybe(0.2, 1, 3),
            "start_period": None,
            "end_period": None,
            "started_at": None,
            "ended_at": None,
            "fixed_quantity": self.maybe(0.3, "3", "1.25"),
            "prorate": self.chance(0.4),
        }

    def own_price(self, slot: str, row: Row) -> Row:
        """A price beside the list's, maybe with a start and an end of its own."""
        product = self.draw.choice(self.made.tables["products"])
        price = {"slot": slot, "list_price_uid": None, "product_uid": product["id"]}
        price |= {"started_at": None, "ended_at": None, **self.terms(product)}
        price["invoice_delivery"] = price["invoice_delivery"] or ARREARS
        if price["invoice_schedule"] is None:
            price["invoice_schedule"] = self.draw.choice([1, 1, 2, 3])
        if self.chance(0.25) and row["ended_at"]:
            started, ended = (date.fromisoformat(row[k][:10]) for k in ("started_at", "ended_at"))
            begin = self.day(started, ended - timedelta(days=31))
            price |= {"started_at": text(begin), "start_period": None}
            if self.chance(0.5):
                price["ended_at"] = text(self.day(begin + timedelta(days=1), ended))
        return price | {"prorate": self.chance(0.4)}

    def events(self) -> None:
        """Usage by customer or by alias, some without what a product asks for."""
        name = f"c{self.made.number}"
        for number in range(self.draw.randint(15, 45)):
            day = date(2023, 1, 1) + timedelta(days=self.draw.randint(0, 1090))
            seconds = self.draw.choice([0, 0, 1, 43_200, 86_399])
            clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
            direct = self.chance(0.5)
            properties: Row = {"name": f"e{self.made.number}-{self.draw.randint(0, 1)}"}
            for key, values in (("region", ["eu", "us", "ap"]), ("tier", [1, 2, 12])):
                if self.chance(0.8):
                    properties[key] = self.draw.choice(values)
            for key in ("n", "m"):
                if self.chance(0.93):
                    properties[key] = self.decimal(0, 60, 3)
            self.made.events.append(
                {
                    "transaction_id": f"{self.made.number}-{number}",
                    "customer_id": f"{name}-{self.draw.randint(0, 1)}" if direct else None,
                    "customer_alias": None
                    if direct
                    else f"{name}-{self.draw.choice(['x', 'y', 'moves'])}",
                    "properties": _json(properties),
                    "metered_at": f"{day.isoformat()}T{clock}+00:00",
                    "received_at": self.draw.choice([EARLY, EARLY, EARLY, LATE]),
                }
            )


def _json(value: Any) -> str:
    return json.dumps(value)


def business(seed: int) -> Business:
    """The business of a seed."""
    return Maker(seed).business()
