"""A proxy in front of a server that can be told to misbehave, on a unix socket of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self


class FaultProxy:
    """Forwards connections to ``target``. Used with ``async with``.

    ``swallow`` takes what clients send and answers nothing (a black hole: connections open, too);
    ``mute`` forwards what they send and loses the answers.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = target
        self.swallow = False
        self.mute = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection off, as a lost network does."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, forth}
        for source, sink, asks in ((reader, forth, True), (back, writer, False)):
            task = asyncio.create_task(self._pump(source, sink, asks=asks))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, asks: bool
    ) -> None:
        try:
            while data := await source.read(1 << 16):
                if self.swallow or (self.mute and not asks):
                    continue
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
            self._writers.discard(sink)
