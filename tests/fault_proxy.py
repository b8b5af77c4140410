"""A proxy in front of a server that can be told to misbehave, on a socket of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self


class FaultProxy:
    """Forwards connections to ``target``. Used with ``async with``.

    ``swallow`` takes what clients send and answers nothing (a black hole: connections open, too);
    ``mute`` forwards what they send and loses the answers; ``delay_s`` holds every answer back.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = target
        self.swallow = False
        self.mute = False
        self.delay_s = 0.0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await self._listen()
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

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._accept, self.path)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self._target)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await self._reach()
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
                if self.delay_s and not asks:
                    await asyncio.sleep(self.delay_s)
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
            self._writers.discard(sink)


class PortProxy(FaultProxy):
    """The same on a TCP port; the target is a unix socket, or a port of this machine."""

    def __init__(self, target: Path | int) -> None:
        super().__init__(Path(), Path())
        self._where = target
        self.port = 0

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._where, int):
            return await asyncio.open_connection("127.0.0.1", self._where)
        return await asyncio.open_unix_connection(self._where)
