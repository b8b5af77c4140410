"""docs/finance.md runs: a controller's month, request by request, against one real service."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.examples import Block, blocks
from tests.docs.test_api_examples import is_shown, perform
from tests.e2e.harness import REPOSITORY, Service, running_service

PAGE = REPOSITORY / "docs" / "finance.md"
NOW = "2026-01-20T12:00:00Z"  # as the page says


@pytest.mark.slow
def test_every_step_is_true() -> None:
    """Each request is answered with the status and the body that the page shows."""
    found = list(blocks(PAGE))
    wrong, made, told = [], 0, ""
    with running_service("--sandbox", "--now", NOW) as service:
        for block, answer in pairwise([*found, Block("", 200, "", 0)]):
            if block.language == "csv":
                told = delivered(service.data / "exports", told)
                wrong += [f"{PAGE.name}:{block.line}: {each}" for each in is_shown(block, told)]
            if block.language != "http":
                continue
            status, told = perform(service, block)
            made += 1
            where = f"{PAGE.name}:{block.line}"
            if status != answer.status:
                wrong.append(f"{where}: {status}, not {answer.status}: {told[:500]}")
            else:
                wrong += [f"{where}: {each}" for each in is_shown(answer, told)]
        page = printed_page(service)
    assert wrong == []
    assert made > 12
    assert all(told in page for told in ("INV-000002", "LLM<", "2026-01-01 to 2026-01-31", "90.00"))


def printed_page(service: Service) -> str:
    """The page of January's invoice in arrears, as a browser gets it."""
    asked = {"period": "2026-01", "timing": "arrears"}
    (invoice,) = service.get("/v1/invoices", **asked)["items"]
    accepts = {"Accept": "text/html,application/xhtml+xml"}
    return service.client.get(f"/v1/invoices/{invoice['id']}", headers=accepts).text


def delivered(root: Path, answer: str) -> str:
    """The file that a run's answer says was delivered."""
    (run,) = json.loads(answer)["runs"]
    (path,) = root.glob(f"*/{run['id']}.csv")
    return path.read_text()
