"""An orderly stop in the middle of heavy load: exit code 0, and what was acknowledged is there."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

import httpx
import pytest

from tests.e2e.harness import end_service, start_service
from tests.e2e.test_copies_everywhere import CATALOG, event

SENDERS = 24
LOAD_S = 6.0


@pytest.mark.slow
async def test_a_stop_under_heavy_load_is_orderly() -> None:
    """Whoever is answered 200 finds the events after a restart; nobody has to be killed."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    service = start_service(parent / "d", "--gateways", "2")
    try:
        service.wait_ready()
        for path, body in CATALOG.items():
            assert service.client.put(f"/v1/{path}", json=body).is_success
        accepted = await flooded_until_stopped(service)
        assert service.process.returncode == 0, service.logs()[-3_000:]
        again = start_service(parent / "d", "--gateways", "2", key=service.key)
        try:
            again.wait_ready()
            (line,) = again.get("/v1/totals", period="2026-01")["items"]
            assert line["event_count"] >= accepted
        finally:
            end_service(again)
    finally:
        end_service(service)
        shutil.rmtree(parent, ignore_errors=True)


async def flooded_until_stopped(service) -> int:
    """Send as fast as it takes it, stop it meanwhile; how many events were acknowledged."""
    accepted = 0
    async with httpx.AsyncClient(
        base_url=service.url, headers=service.client.headers, timeout=30
    ) as client:

        async def send(sender: int) -> None:
            nonlocal accepted
            number = 0
            with contextlib.suppress(httpx.HTTPError):
                while True:
                    first = (number * SENDERS + sender) * 500
                    answer = await client.post(
                        "/v1/events", json=[event(first + n) for n in range(500)]
                    )
                    if answer.status_code == 200:
                        accepted += answer.json()["accepted"]
                        number += 1

        senders = [asyncio.create_task(send(number)) for number in range(SENDERS)]
        await asyncio.sleep(LOAD_S)
        await asyncio.to_thread(service.stop)
        await asyncio.gather(*senders)
    print(f"{accepted} events were acknowledged")
    return accepted
