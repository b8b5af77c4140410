"""Closing and issuing over HTTP: refusals, silence, repetition, many at once, and a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.harness import Service, cli, running_service, wait_for

pytestmark = pytest.mark.slow  # all of it: each test takes up the quarter where the last left it

CATALOG: dict[str, Any] = {
    "meters": {"m": {"event_type": "t", "aggregation": "sum", "value": "data.n"}},
    "products": {"p": {"name": "P", "meter": "m"}},
    "pricebooks": {
        "b": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [{"product": "p", "charge": {"model": "per_unit", "unit_price": "0.50"}}],
        }
    },
    "customers": {
        f"c{n}": {"name": f"<b>C{n}</b>", "subjects": [f"s{n}"], "entity": f"E{n % 2}"}
        for n in range(6)
    },
    "contracts": {
        f"k{n}": {"customer": f"c{n}", "pricebook": "b", "start": "2026-01-01"} for n in range(6)
    },
}


def event(name: str, number: int, day: str, amount: int) -> dict[str, Any]:
    """One event of a subject."""
    return {
        "id": name,
        "source": "s",
        "type": "t",
        "subject": f"s{number}",
        "time": f"{day}T10:00:00Z",
        "data": {"n": amount},
    }


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Six customers with usage in January; it is 2 February."""
    with running_service("--sandbox", "--now", "2026-02-02T00:00:00Z") as running:
        running.post("/v1/catalog", {"document": CATALOG})
        running.post("/v1/events", [event(f"e{n}", n, "2026-01-10", 10 + n) for n in range(6)])
        yield running


def code(service: Service, path: str) -> str:
    """The problem that posting to a path is."""
    return str(service.client.post(path).json()["code"])


def test_a_quarter_of_controlling(service: Service) -> None:
    """Refused while it must be, then one answer for eight callers, before and after a kill."""
    assert code(service, "/v1/periods/2026-Q1/close") == "not_a_month"
    assert code(service, "/v1/periods/2026-13/close") == "invalid_request"
    assert code(service, "/v1/periods/2026-02/close") == "period_not_ended"
    path = "/v1/periods/2026-01/close"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: service.client.post(path), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    closed = answers[0].json()
    assert closed["lines"] == 6
    assert closed["amounts"] == {"USD": "37.50"}
    assert service.get("/v1/totals", period="2026-01")["checksum"] == closed["checksum"]
    (worker,) = service.pids("api.worker")
    drafts = [each["id"] for each in service.get("/v1/invoices", period="2026-01")["items"]]
    with ThreadPoolExecutor(8) as pool:
        issue = f"/v1/invoices/{drafts[0]}/issue"
        issued = list(pool.map(lambda _: service.client.post(issue), range(8)))
    assert len({answer.content for answer in issued}) == 1
    assert issued[0].json()["number"] == "E0-INV-000001"
    os.kill(worker, signal.SIGKILL)
    wait_for(
        lambda: service.client.get("/v1/periods/2026-01").status_code == 200,
        what="the worker is back",
        within_s=60,
    )
    assert service.client.post(path).content == answers[0].content
    assert service.client.post(issue).content == issued[0].content
    assert service.post("/v1/invoices/issue", {"period": "2026-01"})["issued"] == 5
    assert "No difference" in cli(service, "verify")


def test_invoices_are_printed_with_nothing_but_text(service: Service) -> None:
    """A name is no markup; the page names the number and the total."""
    (invoice, *_) = service.get("/v1/invoices", period="2026-01", customer="c1")["items"]
    page = service.client.get(f"/v1/invoices/{invoice['id']}", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "&lt;b&gt;C1&lt;/b&gt;" in page.text
    assert "<b>C1" not in page.text
    assert invoice["number"] in page.text
    as_asked = service.client.get(f"/v1/invoices/{invoice['id']}", params={"format": "html"})
    assert as_asked.text == page.text


def test_a_credit_note_takes_an_invoice_back(service: Service) -> None:
    """Void, again void, not issued again; its lines are on a draft that can be issued."""
    (invoice,) = service.get("/v1/invoices", period="2026-01", contract="k2")["items"]
    path = f"/v1/invoices/{invoice['id']}"
    first = service.client.post(f"{path}/void", json={"reason": "wrong address"})
    assert first.json()["status"] == "void"
    assert first.json()["credit_note"]["number"] == "E0-CN-000001"
    assert service.client.post(f"{path}/void").content == first.content
    assert code(service, f"{path}/issue") == "invoice_void"
    found = service.get("/v1/invoices", period="2026-01", contract="k2", status="draft")["items"]
    assert [each["id"] for each in found] == [f"{invoice['id']}~2"]
    assert code(service, f"/v1/invoices/{found[0]['id']}/void") == "invoice_not_issued"
    again = service.post(f"/v1/invoices/{found[0]['id']}/issue", None)
    assert (again["total"], again["status"]) == (invoice["total"], "issued")
    notes = service.get("/v1/invoices", period="2026-01", kind="credit_note")["items"]
    assert [note["total"] for note in notes] == [f"-{invoice['total']}"]


def test_a_silent_node_blocks_the_close(service: Service) -> None:
    """Nothing is closed while a registered node says nothing; the problem names it."""
    service.post("/v1/admin/clock", {"now": "2026-03-02T00:00:00Z"})
    with sqlite3.connect(service.data / "catalog.sqlite") as connection:
        connection.execute(
            "INSERT INTO nodes (node, instance, registered_at) VALUES ('gone', 'x', 1)"
        )
    connection.close()
    answer = service.client.post("/v1/periods/2026-02/close").json()
    assert answer["code"] == "node_behind"
    assert "gone (never)" in answer["detail"]
    cli(service, "node", "retire", "gone", "--data", str(service.data))
    assert service.client.post("/v1/periods/2026-02/close").status_code == 200
