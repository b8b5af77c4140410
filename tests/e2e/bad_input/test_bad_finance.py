"""What finance gets wrong, over HTTP: each a problem of its own, nothing half done."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Service, running_service, wait_for

DOCUMENT: dict[str, Any] = {
    "taxes": {
        "DE": {
            "name": "Umsatzsteuer",
            "rates": [{"percent": "19", "until": "2026-01-15"}],
        }
    },
    "products": {"seat": {"name": "Seat"}},
    "pricebooks": {
        "pro": {
            "currency": "EUR",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [{"product": "seat", "charge": {"model": "flat", "amount": "20.00"}}],
        }
    },
    "customers": {"acme": {"name": "Acme", "subjects": ["a"], "tax": {"jurisdiction": "DE"}}},
    "contracts": {"acme-1": {"customer": "acme", "pricebook": "pro", "start": "2026-01-01"}},
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A seat sold in January, under a tax table that says nothing of its end; 20 January."""
    out = tmp_path_factory.mktemp("finance") / "out"
    settings = {"OUTBOUND__FOLDER": str(out)}
    with running_service(
        "--sandbox", "--now", "2026-01-20T00:00:00Z", settings=settings
    ) as service:
        service.post("/v1/catalog", {"document": DOCUMENT})
        yield service, out


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and detail; anything but a problem fails."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    return answer.status_code, told["code"], told["detail"]


def test_a_period_that_has_not_ended(deployment: tuple[Service, Path]) -> None:
    """Neither closed nor invoiced; the problem says until when to wait, and nothing was written."""
    service, _ = deployment
    status, code, detail = problem(service.client.post("/v1/periods/2026-01/close"))
    assert (status, code) == (409, "period_not_ended")
    assert "2026-02-01T00:00:00Z" in detail
    (draft,) = service.get("/v1/invoices", period="2026-01")["items"]
    status, code, _ = problem(service.client.post(f"/v1/invoices/{draft['id']}/issue"))
    assert (status, code) == (409, "period_not_ended")
    due = service.post("/v1/invoices/issue", {"period": "2026-01"})
    assert (due["issued"], due["not_due"]) == (0, 1)
    assert service.get("/v1/periods/2026-01")["status"] == "open"


@pytest.mark.parametrize("currency", ["XYZ", "EURO", "eur", "", "XXX"])
def test_an_unknown_currency(deployment: tuple[Service, Path], currency: str) -> None:
    """Refused where it is stated, with the place named; nothing of the document is kept."""
    service, _ = deployment
    document = copy.deepcopy(DOCUMENT)
    document["pricebooks"] = {"new": DOCUMENT["pricebooks"]["pro"] | {"currency": currency}}
    answer = service.client.post("/v1/catalog", json={"document": document})
    status, code, detail = problem(answer)
    assert (status, code) == (422, "invalid_document")
    assert "/pricebooks/new/currency" in detail
    assert service.client.get("/v1/pricebooks/new").status_code == 404


@pytest.mark.parametrize(("column", "value"), [("currencies", "ZZZ"), ("kinds", "usages")])
def test_an_export_of_what_there_cannot_be(
    deployment: tuple[Service, Path], column: str, value: str
) -> None:
    """A filter that no line can pass is a mistake, and told as one."""
    service, _ = deployment
    export = {"kind": "files", "folder": "x", "format": "csv", "filter": {column: {"in": [value]}}}
    answer = service.client.put("/v1/exports/typo", json=export)
    assert problem(answer)[:2] == (422, "invalid_document")
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"/filter/{column}/in/0"
    assert value in error["detail"]
    assert service.client.get("/v1/exports/typo").status_code == 404


def test_a_tax_table_with_a_hole(deployment: tuple[Service, Path]) -> None:
    """Refused where it is stated: the days without a rate are named."""
    service, _ = deployment
    holed = copy.deepcopy(DOCUMENT["taxes"])
    holed["DE"]["rates"].append({"percent": "20", "from": "2026-02-15"})
    status, code, detail = problem(
        service.client.post("/v1/catalog", json={"document": {"taxes": holed}})
    )
    assert (status, code) == (422, "invalid_document")
    assert "/taxes/DE/rates/1/from" in detail
    assert "from 2026-01-15 to 2026-02-15" in detail


def test_a_tax_table_that_ends(deployment: tuple[Service, Path]) -> None:
    """The invoice waits, and says for which rate of which day; it is never taxed at zero."""
    service, _ = deployment
    service.post("/v1/admin/clock", {"now": "2026-02-01T08:00:00Z"})
    (draft,) = service.get("/v1/invoices", period="2026-01")["items"]
    assert "no rate" in draft["waiting"]
    assert "2026-01-31" in draft["waiting"]
    status, code, detail = problem(service.client.post(f"/v1/invoices/{draft['id']}/issue"))
    assert (status, code, detail) == (409, "tax_rate_missing", draft["waiting"])
    due = service.post("/v1/invoices/issue", {"period": "2026-01"})
    assert due["issued"] == 0
    assert due["waiting"] == [{"id": draft["id"], "reason": draft["waiting"]}]
    mended = copy.deepcopy(DOCUMENT["taxes"]["DE"])
    mended["rates"][0]["until"] = "2026-02-15"
    service.post("/v1/catalog", {"document": {"taxes": {"DE": mended}}})
    assert service.post(f"/v1/invoices/{draft['id']}/issue", None)["tax"] == "3.80"


def test_a_destination_that_fails_half_way(deployment: tuple[Service, Path]) -> None:
    """The run says why, nothing of it is at the destination, and the same run arrives later."""
    service, out = deployment
    out.mkdir(exist_ok=True)
    (out / "ledger").write_text("a file where the folder should be")
    export = {"kind": "files", "folder": "ledger", "format": "csv", "schedule": {"every": "manual"}}
    service.client.put("/v1/exports/ledger", json=export).raise_for_status()
    status, code, detail = problem(service.client.post("/v1/exports/ledger/run"))
    assert (status, code) == (502, "export_undelivered")
    assert "ledger" in detail

    def runs() -> list[dict[str, Any]]:
        return list(service.get("/v1/exports/ledger/runs")["items"])

    (failed,) = runs()
    assert failed["status"] == "pending"
    assert "File exists" in failed["error"] or "Not a directory" in failed["error"]
    assert failed["deliveries"] == 0
    assert list(out.rglob("*")) == [out / "ledger"]
    (out / "ledger").unlink()
    number = failed["number"]
    service.client.post(f"/v1/exports/ledger/runs/{number}/replay").raise_for_status()
    wait_for(lambda: runs()[0]["status"] == "delivered", what="it arrives", within_s=30)
    (run,) = runs()
    assert run["number"] == number
    (file,) = (path for path in (out / "ledger").rglob("*.csv"))
    assert file.read_text().count("\n") == 2
    shutil.rmtree(out)
