"""A month handed over by the real service: taxed, closed, issued, exported, posted, signed."""

from __future__ import annotations

import base64
import os
import secrets
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.harness import Service, cli, running_service, wait_for
from tests.receiver import Receiver, receiving

NOW = "2026-01-31T12:00:00Z"
CLOSED = "2026-02-03T00:00:00Z"
CATALOG = """
taxes:
  DE: {name: Umsatzsteuer, rates: [{percent: 19}]}
meters: {tokens: {event_type: llm, aggregation: sum, value: data.tokens}}
products: {tokens: {name: Tokens, meter: tokens}, seat: {name: Seat}}
pricebooks:
  pro:
    currency: EUR
    invoicing: {timing: arrears, every_months: 1}
    prices:
      - {product: tokens, charge: {model: per_unit, unit_price: "0.01"}}
      - {product: seat, charge: {model: flat, amount: "20.00"}}
customers:
  acme: {name: Acme, subjects: [a], tax: {jurisdiction: DE}}
  bolt: {name: Bolt, subjects: [b]}
contracts:
  acme-1: {customer: acme, pricebook: pro, start: 2026-01-01}
  bolt-1: {customer: bolt, pricebook: pro, start: 2026-01-01}
"""
EXPORTS = """
exports:
  tokens: {kind: files, folder: tokens, format: csv, filter: {products: {in: [tokens]}}}
  rest: {kind: files, folder: rest, format: parquet, filter: {products: {not_in: [tokens]}}}
  gl:
    kind: files
    folder: gl
    format: csv
    document: journal
    options: {accounts: {receivable: "1200", revenue: "4000", tax_payable: "2200"}}
  hook: {kind: webhook, url: "%s", secrets: [%s], format: json, document: invoices,
         schedule: {every: manual}}
"""


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Receiver, Path]]:
    """January closed; acme's invoice issued, bolt's waiting for its jurisdiction."""
    folder = tmp_path_factory.mktemp("exports")
    (folder / "catalog.yaml").write_text(CATALOG)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    settings = {"OUTBOUND__ALLOW": "127.0.0.1/32", "OUTBOUND__FOLDER": str(folder / "out")}
    with (
        receiving("500", "200") as receiver,
        running_service("--sandbox", "--now", NOW, settings=settings) as service,
    ):
        (folder / "exports.yaml").write_text(EXPORTS % (receiver.url, secret))
        cli(service, "apply", str(folder / "catalog.yaml"))
        for subject, tokens in (("a", 1000), ("b", 10)):
            event = {"id": subject, "source": "s", "type": "llm", "subject": subject}
            service.post("/v1/events", [event | {"data": {"tokens": tokens}}])
        service.post("/v1/admin/clock", {"now": CLOSED})
        cli(service, "exports", "apply", str(folder / "exports.yaml"))
        service.post("/v1/periods/2026-01/close", None)
        yield service, receiver, folder / "out"


def test_the_month(month: tuple[Service, Receiver, Path]) -> None:
    """Two ledgers by product, a balanced journal with tax, a webhook that was refused once."""
    service, receiver, out = month
    drafts = {
        each["customer"]: each for each in service.get("/v1/invoices", period="2026-01")["items"]
    }
    refused = service.client.post(f"/v1/invoices/{drafts['bolt']['id']}/issue")
    assert (refused.status_code, refused.json()["code"]) == (409, "tax_rate_missing")
    assert "customer bolt has no tax jurisdiction on 2026-01-31" in refused.json()["detail"]
    issued = service.post(f"/v1/invoices/{drafts['acme']['id']}/issue", None)
    assert (issued["subtotal"], issued["tax"], issued["total"]) == ("30.00", "5.70", "35.70")

    wait_for(lambda: bool(list(out.glob("gl/*.csv")) and list(out.glob("rest/*.parquet"))),
             what="delivered by the schedule", within_s=20, explain=service.explain)  # fmt: skip
    tokens = pl.concat([pl.read_csv(path) for path in sorted(out.glob("tokens/*.csv"))])
    rest = pl.concat([pl.read_parquet(path) for path in sorted(out.glob("rest/*.parquet"))])
    totals = service.get("/v1/totals", period="2026-01")["items"]
    assert sorted([*tokens["line_id"], *rest["line_id"]]) == sorted(
        row["line_id"] for row in totals
    )
    journal = pl.read_csv(next(out.glob("gl/*.csv")), infer_schema=False)
    assert sorted(journal.select("account", "debit", "credit").rows()) == [
        ("1200", "35.70", "0.00"),
        ("2200", "0.00", "5.70"),
        ("4000", "0.00", "10.00"),
        ("4000", "0.00", "20.00"),
    ]
    failed = service.client.post("/v1/exports/hook/run")
    assert (failed.status_code, failed.json()["code"]) == (502, "export_undelivered")
    assert failed.json()["runs"][0]["error"] == "it answers 500"
    assert "it answers 500" in cli(service, "exports", "runs", "hook")
    assert "delivered" in cli(service, "exports", "replay", "hook", "1")
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({body for _, body in receiver.got}) == 1


def test_a_service_that_is_killed_delivers_the_same_again(
    month: tuple[Service, Receiver, Path],
) -> None:
    """After kill -9 of the worker nothing is repeated by itself, and a replay is the same file."""
    service, _, out = month
    wait_for(lambda: bool(list(out.glob("tokens/*.csv"))), what="delivered", within_s=20)
    before = {path: path.read_bytes() for path in out.rglob("*.csv")}
    runs = service.get("/v1/exports/tokens/runs")["items"]
    (worker,) = service.pids("api.worker")
    os.kill(worker, signal.SIGKILL)
    service.wait_ready()
    assert service.get("/v1/exports/tokens/runs")["items"] == runs
    first = next(iter(sorted(out.glob("tokens/*.csv"))))
    first.unlink()
    cli(service, "exports", "replay", "tokens", "1")
    assert {path: path.read_bytes() for path in out.rglob("*.csv")} == before


def test_what_is_wrong_is_said(month: tuple[Service, Receiver, Path]) -> None:
    """Hostile URLs, unknown keys, unknown exports, a key without the scope."""
    service, _, _ = month
    hook = {"kind": "webhook", "format": "json", "secrets": ["whsec_" + "A" * 32]}
    for url in ("http://169.254.169.254/", "https://u:p@x.example/", "ftp://x.example/"):
        answer = service.client.put("/v1/exports/bad", json=hook | {"url": url})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/url"
    for path in ("/v1/exports/none", "/v1/exports/none/runs"):
        assert service.client.get(path).status_code == 404
    assert service.client.post("/v1/exports/none/run").status_code == 404
    assert service.client.post("/v1/exports/tokens/runs/99/replay").status_code == 404
    assert service.client.post("/v1/exports", json={"kind": "files"}).status_code == 422
    assert service.client.post("/v1/exports", json={"id": "tokens"}).status_code == 409
    limited = service.post("/v1/keys", {"name": "r", "scopes": ["read"]})["key"]
    headers = {"authorization": f"Bearer {limited}"}
    assert service.client.post("/v1/exports/tokens/run", headers=headers).status_code == 403
    assert service.client.get("/v1/exports", headers=headers).status_code == 200


def test_sums_agree(month: tuple[Service, Receiver, Path]) -> None:
    """What was handed over is what the close said, per currency."""
    service, _, out = month
    closed = service.post("/v1/periods/2026-01/close", None)
    files = [pl.read_csv(path).select(pl.col("amount").cast(pl.Decimal(38, 2)))
             for path in out.glob("tokens/*.csv")]  # fmt: skip
    parquet = [pl.read_parquet(path).select(pl.col("amount").cast(pl.Decimal(38, 2)))
               for path in out.glob("rest/*.parquet")]  # fmt: skip
    assert pl.concat([*files, *parquet])["amount"].sum() == Decimal(closed["amounts"]["EUR"])


def test_reports_over_what_is_closed_and_open(month: tuple[Service, Receiver, Path]) -> None:
    """Revenue sums to the totals whichever way it is cut; unbilled is what waits for its tax."""
    service, _, _ = month
    total = service.get("/v1/periods/2026-01")["amounts"]["EUR"]
    for by in ("day", "accounting_date", "product", "customer"):
        items = service.get("/v1/reports/revenue", period="2026-01", by=by)["items"]
        assert sum(Decimal(each["amount"]) for each in items) == Decimal(total), by
    assert len(service.get("/v1/reports/revenue", period="2026-01", by="day")["items"]) == 31
    waiting = service.get("/v1/reports/unbilled", period="2026-01")["items"]
    assert [(each["customer"], each["closed"], each["open"]) for each in waiting] == [
        ("bolt", "20.10", "0.00")
    ]
    assert service.get("/v1/reports/adjustments", period="2026-01")["items"] == []
    csv = service.client.get("/v1/reports/revenue?period=2026-01&by=product&format=csv").text
    assert csv.splitlines()[0] == "product,currency,closed,open,amount,lines"
    page = service.get("/v1/reports/revenue", period="2026-01", by="day", limit=30)
    rest = service.get(
        "/v1/reports/revenue", period="2026-01", by="day", limit=30, cursor=page["next_cursor"]
    )
    assert len(page["items"]) + len(rest["items"]) == 31
