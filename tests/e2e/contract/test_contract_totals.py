"""Sections 10 and 11: totals, their explanations, invoices, and usage."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tests.e2e.contract.world import (
    CATALOG,
    NOW,
    ROW,
    event,
    pages,
    put,
    totals,
)
from tests.e2e.harness import Service


def test_rows_have_their_fields_and_order(service: Service) -> None:
    """Sorted, complete, decimals as text; every line of a quarter's usage and fees."""
    answer = totals(service)
    rows = answer["items"]
    keys = [
        (row["customer"], row["contract"], row["period_start"], row["product"], row["kind"],
         json.dumps(row["dimensions"], sort_keys=True, separators=(",", ":")), row["line_id"])
        for row in rows
    ]  # fmt: skip

    assert answer.keys() == {"period", "as_of", "watermark", "engine", "checksum", "items",
                             "next_cursor"}  # fmt: skip
    assert all(row.keys() == ROW for row in rows)
    assert keys == sorted(keys)
    assert len({row["line_id"] for row in rows}) == len(rows)
    assert {row["timing"] for row in rows} == {"arrears", "advance", "once"}
    assert {row["kind"] for row in rows} == {"usage", "fixed"}
    assert all(re.fullmatch(r"-?\d+\.\d\d", row["amount"]) for row in rows)
    assert all(isinstance(row["quantity"], str) for row in rows)
    assert {row["status"] for row in rows} == {"open"}


def test_every_format_is_the_same_answer(service: Service) -> None:
    """CSV, Arrow and Parquet agree with JSON; the checksum is the SHA-256 of the CSV."""
    answer = totals(service)
    query = {"period": "2026", "as_of": answer["as_of"]}
    csv = service.client.get("/v1/totals", params=query | {"format": "csv"})
    stream = service.client.get("/v1/totals", params=query | {"format": "arrow"})
    accept = {"accept": "application/vnd.apache.parquet"}
    file = service.client.get("/v1/totals", params=query, headers=accept)
    table = pa.ipc.open_stream(stream.content).read_all()

    assert hashlib.sha256(csv.content).hexdigest() == answer["checksum"]
    for each in (csv, stream, file):
        for name in ("period", "as_of", "watermark", "engine", "checksum"):
            if name != "watermark":
                assert each.headers[f"tallyman-{name.replace('_', '-')}"] == answer[name]
            assert f"tallyman-{name.replace('_', '-')}" in each.headers
    assert pq.read_table(io.BytesIO(file.content)).equals(table)
    assert pa.csv.read_csv(io.BytesIO(csv.content)).column_names == table.column_names
    for row, line in zip(table.to_pylist(), answer["items"], strict=True):
        assert row["line_id"] == line["line_id"]
        assert Decimal(row["quantity"]) == Decimal(line["quantity"])
        assert Decimal(row["amount"]) == Decimal(line["amount"])
        assert json.loads(row["dimensions"]) == line["dimensions"]
        assert row["period_start"] == dt.datetime.fromisoformat(line["period_start"])


def test_the_same_as_of_is_the_same_bytes(service: Service) -> None:
    """Later events and catalog changes do not touch an answer as of before."""
    before = totals(service)
    csv = service.client.get("/v1/totals?format=csv&period=2026&as_of=" + before["as_of"])
    service.post("/v1/events", [event("late", subject="beta-1", time="2026-01-02T00:00:00Z")])
    put(service, "/v1/products/fee", {"name": "Renamed"})
    again = service.client.get("/v1/totals?format=csv&period=2026&as_of=" + before["as_of"])

    assert again.content == csv.content
    assert totals(service)["checksum"] != before["checksum"]
    put(service, "/v1/products/fee", CATALOG["products"]["fee"])


def amounts(service: Service, period: str, as_of: str) -> dict[str, str]:
    """Amount by line."""
    found = pages(service, "/v1/totals", period=period, as_of=as_of, limit=7)
    return {line["line_id"]: line["amount"] for line in found}


def test_periods_add_up(service: Service) -> None:
    """A year is its quarters, its months, its days: each line is in exactly one of them."""
    as_of = totals(service)["as_of"]
    year = amounts(service, "2026", as_of)
    first = dt.date(2026, 1, 1)
    days = [str(first + dt.timedelta(days=day)) for day in range(120)]
    parts = (
        [f"2026-Q{quarter}" for quarter in range(1, 5)],
        [f"2026-{month:02d}" for month in range(1, 13)],
        days,
    )
    assert len(year) > 20
    for periods in parts:
        each = [amounts(service, period, as_of) for period in periods]
        assert sum(map(len, each)) == len(year)
        assert {line: amount for found in each for line, amount in found.items()} == year


def test_accounting_months(service: Service) -> None:
    """Arrears by the last day, advance by the first, once by the contract's first."""

    def months(contract: str) -> dict[tuple[str, str], str]:
        return {
            (line["product"], line["period_start"]): f"2026-{month:02d}"
            for month in range(1, 7)
            for line in totals(service, period=f"2026-{month:02d}", contract=contract)["items"]
        }

    acme = months("acme")
    assert acme["tokens", "2026-01-14T23:00:00Z"] == "2026-02"
    assert acme["fee", "2026-01-14T23:00:00Z"] == "2026-01"
    assert acme["fee", "2026-03-14T23:00:00Z"] == "2026-03"
    assert acme["setup", "2026-01-14T23:00:00Z"] == "2026-01"
    assert len([key for key in acme if key[0] == "setup"]) == 1
    assert ("fee", "2026-04-14T22:00:00Z") not in acme, "it has not begun"
    beta = months("beta")
    assert beta["tokens", "2026-03-01T00:00:00Z"] == "2026-03", "what was used so far"


def test_zeros_are_shown_on_demand(service: Service) -> None:
    """A line of nothing is left out unless asked for."""
    plain = totals(service, period="2026-03", contract="beta")["items"]
    zeros = totals(service, period="2026-03", contract="beta", zeros="true")["items"]
    assert [line for line in zeros if line in plain] == plain
    nothing = [line for line in zeros if line not in plain]
    assert nothing
    assert all(Decimal(line["amount"]) == Decimal(line["quantity"]) == 0 for line in nothing)


def test_pages_are_of_one_answer(service: Service) -> None:
    """An event between two pages changes neither the pages nor the checksum."""
    whole = totals(service)
    first = totals(service, limit=5)
    service.post("/v1/events", [event("between", subject="beta-1", time="2026-01-03T00:00:00Z")])
    second = totals(service, limit=1000, cursor=first["next_cursor"])

    assert second["as_of"] == first["as_of"]
    assert second["checksum"] == first["checksum"] == whole["checksum"]
    assert first["items"] + second["items"] == whole["items"]


def test_every_line_explains_itself(service: Service) -> None:
    """The explanation ends in the line's amount, and lists as many events as it counts."""
    for line in totals(service)["items"]:
        path = f"/v1/totals/{line['line_id']}"
        told = service.get(f"{path}/explain")
        assert (told["amount"], told["quantity"]) == (line["amount"], line["quantity"])
        assert told["event_count"] == line["event_count"]
        assert told["line"]["dimensions"] == line["dimensions"]
        assert told["price"]["version"] == line["price_version"]
        events = pages(service, f"{path}/events", limit=40)
        assert len({(each["node"], each["seq"]) for each in events}) == line["event_count"]
        if line["meter"] == "tokens":
            counted = sum(Decimal(each["value"]) for each in events)
            assert counted == Decimal(line["quantity"])


def test_graduated_tiers_by_hand(service: Service) -> None:
    """The tiers of one line, computed here: 100 at 0.1, the rest at 0.05, rounded half up."""
    lines = [line for line in totals(service)["items"] if line["product"] == "tokens"]
    assert len(lines) > 3
    for line in lines:
        quantity = Decimal(line["quantity"])
        exact = min(quantity, Decimal(100)) * Decimal("0.1") + max(
            quantity - 100, Decimal(0)
        ) * Decimal("0.05")
        assert Decimal(line["amount"]) == exact.quantize(Decimal("0.01"), "ROUND_HALF_UP")


def test_invoices_add_up(service: Service) -> None:
    """Drafts hold every line once; one per contract, timing and billing period."""
    invoices = pages(service, "/v1/invoices", period="2026", limit=3)
    lines = totals(service)["items"]
    names = [
        tuple(each[name] for name in ("contract", "timing", "period_start", "period_end"))
        for each in invoices
    ]

    assert len(set(names)) == len(names)
    assert {each["status"] for each in invoices} == {"draft"}
    for each in invoices:
        assert each.keys() >= {
            "id", "number", "customer", "contract", "timing", "period_start", "period_end",
            "currency", "subtotal", "tax", "total", "status", "lines",
        }  # fmt: skip
        assert sum(Decimal(line["amount"]) for line in each["lines"]) == Decimal(each["subtotal"])
        assert Decimal(each["subtotal"]) + Decimal(each["tax"]) == Decimal(each["total"])
    billed = sorted(line["line_id"] for each in invoices for line in each["lines"])
    assert billed == sorted(line["line_id"] for line in lines)
    advance = pages(service, "/v1/invoices", period="2026", timing="advance", customer="beta")
    assert [each["total"] for each in advance] == ["20.00"] * 3


def test_usage_of_a_meter(service: Service) -> None:
    """One row for everything, whoever used it; windows and groups add up to it."""

    def rows(**params: str) -> list[dict[str, Any]]:
        return pages(service, "/v1/meters/tokens/usage", limit=50, **params)

    [whole] = rows(customer="beta")
    assert whole.keys() == {"value"}
    grouped = rows(customer="beta", group_by="model", window="1d")
    assert {row["dimensions"].get("model") for row in grouped} == {"gpt", "claude", None}
    assert sum(Decimal(row["value"]) for row in grouped) == Decimal(whole["value"])
    assert grouped[0].keys() == {"window_start", "window_end", "dimensions", "value"}
    berlin = rows(customer="beta", window="1d", timezone="Europe/Berlin")
    assert all(row["window_start"].endswith("T23:00:00Z") for row in berlin)
    assert "customer" in rows(group_by="customer")[0]


def test_the_clock_moves_forwards_only(service: Service) -> None:
    """Last, because it cannot be moved back: the new month's fee is due at once."""
    ahead = service.post("/v1/admin/clock", {"now": "2026-04-02T00:00:00+02:00"})
    back = service.client.post("/v1/admin/clock", json={"now": NOW})
    april = totals(service, period="2026-04", contract="beta")["items"]

    assert ahead["now"] == "2026-04-01T22:00:00Z"
    assert (back.status_code, back.json()["code"]) == (409, "clock_backwards")
    assert [(line["product"], line["amount"]) for line in april] == [("fee", "20.00")]
    assert service.post("/v1/admin/verify", None)["ok"] is True
