"""Both clients behind one face, so that one behaviour suite serves them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

from tallyman_client import AsyncTallyman, Tallyman

Make = Callable[..., Tallyman]
"""Makes a client of one kind, with Tallyman's arguments."""


class FromThreads:
    """An AsyncTallyman in a loop of its own, called from threads like a Tallyman."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._client = AsyncTallyman(*args, **kwargs)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            if not inspect.isawaitable(answer):
                return answer
            return asyncio.run_coroutine_threadsafe(_await(answer), self._loop).result(60)

        return call

    def end(self) -> None:
        """Close the client and its loop."""
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _await(answer: Any) -> Any:
    return await answer


@contextlib.contextmanager
def making(kind: str) -> Iterator[Make]:
    """A maker of clients of a ``kind``, "threads" or "asyncio"; they are closed at the end."""
    with contextlib.ExitStack() as ending:

        def make(*args: Any, **kwargs: Any) -> Tallyman:
            if kind == "threads":
                return ending.enter_context(Tallyman(*args, **kwargs))
            client = FromThreads(*args, **kwargs)
            ending.callback(client.end)
            return cast("Tallyman", client)

        yield make
