"""GET /healthz and /readyz: whether this process lives, and what is not ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.types import Receive, Scope, Send

from api.hot.dispatch import respond_json
from api.hot.shared import Shared

CHECK_S_MAX = 2.0

Check = Callable[[], Awaitable[str | None]]
"""Answers why something is not ready, or None when it is."""


class Healthz:
    """This process answers. Nothing else is looked at, so that nobody restarts it in vain."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer 200."""
        await respond_json(send, {"status": "ok"})


class Readyz:
    """200 when everything a request may need is there, else 503 with the reasons by name."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._missing = Shared(self._look)

    def add(self, name: str, check: Check) -> None:
        """Look at one more thing from now on."""
        self._checks[name] = check

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Run all checks at once, each for at most two seconds."""
        missing = await self._missing.get()
        content: dict[str, object] = {"ready": not missing, "not_ready": missing}
        await respond_json(send, content, status=503 if missing else 200)

    async def _look(self) -> dict[str, str]:
        names = list(self._checks)
        reasons = await asyncio.gather(*(self._run(name) for name in names))
        return {name: why for name, why in zip(names, reasons, strict=True) if why is not None}

    async def _run(self, name: str) -> str | None:
        try:
            return await asyncio.wait_for(self._checks[name](), CHECK_S_MAX)
        except TimeoutError:
            return "no answer"
        except Exception as error:  # noqa: BLE001  (whatever broke, it is not ready)
            return f"{type(error).__name__}: {error}"
