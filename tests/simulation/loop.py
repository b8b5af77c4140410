"""An event loop that stands still between steps: what would run in a thread waits for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Call:
    """A call that was given to a thread: made in one step, and told of in a later one."""

    owner: object
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    made: bool = field(default=False)

    def make(self) -> None:
        """Do what the thread would."""
        self.made = True
        try:
            self.result = self.function(*self.arguments)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self.error = error

    def tell(self) -> None:
        """Let the event loop know."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class SteppedLoop(asyncio.SelectorEventLoop):
    """Runs only in :meth:`settle`, until everybody waits for a :class:`Call` or another request."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Keep the call for a later step."""
        call = Call(executor, func, args, self.create_future())
        self.calls.append(call)
        return call.future

    def settle(self) -> None:
        """Run what can run."""
        while self._ready:
            self.call_soon(self.stop)
            self.run_forever()
