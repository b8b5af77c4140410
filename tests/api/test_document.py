"""The OpenAPI document as gateways keep it."""

from __future__ import annotations

import asyncio

from api.hot.document import OpenApi
from api.relay import WorkerUnavailable


async def test_all_who_wait_share_one_look_and_the_document_is_kept():
    """A worker that is away is waited for once, not by each in turn; then it is asked no more."""
    asked, sent = 0, []

    async def fetch() -> bytes:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        if asked == 1:
            raise WorkerUnavailable("away")
        return b"{}"

    async def send(message) -> None:
        sent.append(message)

    document = OpenApi(fetch)

    async def get() -> None:
        await document({"type": "http"}, None, send)

    failed = await asyncio.gather(*(get() for _ in range(20)), return_exceptions=True)
    assert {type(each) for each in failed} == {WorkerUnavailable}
    assert asked == 1
    await asyncio.gather(*(get() for _ in range(20)))
    await get()
    assert asked == 2
    assert sum(message.get("body") == b"{}" for message in sent) == 21
