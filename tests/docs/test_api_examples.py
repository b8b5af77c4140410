"""docs/api.md and docs/whatif.md run: every request and program, against a real service each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.examples import Block, blocks, differences, read_request
from tests.e2e.harness import REPOSITORY, Service, environment, running_service

PAGE = REPOSITORY / "docs" / "api.md"
PAGES = (PAGE, REPOSITORY / "docs" / "whatif.md")
NOW = "2026-01-31T12:00:00Z"  # as the page says
SHOWN_ONLY = {"console", "json", "csv"}


def perform(service: Service, block: Block) -> tuple[int, str]:
    """Do what a block shows; answers the status and the text."""
    match block.language:
        case "http":
            asked = read_request(block)
            answer = service.client.request(
                asked.method,
                asked.target,
                headers=asked.headers,
                content=asked.body.encode() or None,
            )
            return answer.status_code, answer.text
        case "python":
            return 200, run(service, [sys.executable, "-c", block.text])
        case "bash":
            if block.text.startswith("curl") and shutil.which("curl") is None:
                return 200, ""
            return 200, run(service, ["bash", "-euc", block.text])
        case other:
            raise AssertionError(f"line {block.line}: nobody runs {other!r}")


def run(service: Service, command: list[str]) -> str:
    """A program with the service's address and key, as the reader would have them."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment(url=service.url, key=service.key)
        | {"PATH": path, "PYTHONPATH": str(REPOSITORY)},  # this tree's tallyman, wherever it is
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stderr}"
    return done.stdout


def is_shown(answer: Block, told: str) -> list[str]:
    """How what was answered differs from what the page shows."""
    if answer.language == "csv":
        return differences(answer.text.split(), told.split())
    return differences(json.loads(answer.text), json.loads(told))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_is_true(page: Path) -> None:
    """Each request is answered with the status and the body that the page shows."""
    found = list(blocks(page))
    wrong = []
    with running_service("--sandbox", "--now", NOW) as service:
        for block, following in pairwise([*found, Block("", 200, "", 0)]):
            if block.language in SHOWN_ONLY:
                continue
            status, told = perform(service, block)
            answered = following.language in {"json", "csv"}
            expected = following.status if answered else 200
            where = f"{page.name}:{block.line}"
            if status != expected:
                wrong.append(f"{where}: {status}, not {expected}: {told[:500]}")
            elif answered:
                wrong += [f"{where}: {each}" for each in is_shown(following, told)]
            else:
                assert block.language == "bash", f"{where} shows no answer"
    assert wrong == [], "\n".join(wrong)


def test_the_page_has_what_a_reader_needs() -> None:
    """Each format, and each thing a user does, is shown at least once."""
    shown = "\n".join(block.text for block in blocks(PAGE) if block.language in {"http", "python"})
    for needed in (
        *("/v1/keys", "PUT /v1/", "/v1/catalog", "ndjson", "ce-id", "arrow.stream", "/void"),
        *("/unmatched", "/usage?", "text/csv", "parquet", "as_of=", "/explain", "/invoices"),
        *("/entitlements/check", "/entitlements/consume", "/v1/admin/verify"),
    ):
        assert needed in shown, needed


@pytest.mark.parametrize(
    ("shown", "told", "same"),
    [
        ({"a": "…"}, {"a": 1}, True),
        ({"a": "…"}, {}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "…": "…"}, {"a": 1, "b": 2}, True),
        ({"a": "2026-…"}, {"a": "2026-01"}, True),
        ({"a": "2026-…"}, {"a": "2027-01"}, False),
        ([1, "…"], [1, 2, 3], True),
        ([1], [1, 2], False),
        ({"a": True}, {"a": 1}, False),
    ],
)
def test_the_comparison_can_fail(shown: object, told: object, same: bool) -> None:
    """A wildcard stands for what it replaces, and for nothing else."""
    assert same == (differences(shown, told) == [])
