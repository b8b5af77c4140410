"""GET /openapi.json: the worker's document, asked for once and kept.

Nobody needs a key for it, so it must not cost what others need: a place at the worker, or a copy of
it for every caller who does not take it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from api.hot.dispatch import respond
from api.hot.shared import Shared


class OpenApi:
    """Answers with what ``fetch`` answered first.

    What it raises is raised to all who waited for it; the next to ask begins again.
    """

    def __init__(self, fetch: Callable[[], Awaitable[bytes]]) -> None:
        self._fetched = Shared(fetch)
        self._content: bytes | None = None

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._content is None:
            self._content = await self._fetched.get()
        await respond(send, self._content, content_type=b"application/json")
