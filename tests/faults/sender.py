"""A client that keeps its own books: what it sent, what was acknowledged, what it had to repeat.

It knows nothing of the service's inside, and repeats every request until it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import polars as pl

PAUSE_S = 0.01
ANSWER_S_MAX = 30.0
SIZES = (1, 1, 1, 7, 7, 60, 60, 2_000)
"""Of bodies: small ones share a frame, the large one's takes a while to reach the disk."""


@dataclass
class Books:
    """What senders know. ``sent`` and ``acknowledged`` are data by id."""

    sent: dict[str, str] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    refused: int = 0
    broken: int = 0
    answers_lost: int = 0
    """Bodies that were durable although no answer came: the repetition told."""
    surprises: list[str] = field(default_factory=list)

    def check(self, found: pl.DataFrame, *, acknowledged: dict[str, str] | None = None) -> None:
        """A log holds every acknowledged event once, as it was sent, and nothing never sent."""
        assert self.surprises == []
        stored = dict(zip(found["id"].to_list(), found["data"].to_list(), strict=True))
        assert len(stored) == found.height, "an event is in the log twice"
        promised = self.acknowledged if acknowledged is None else acknowledged
        lost = promised.keys() - stored.keys()
        assert not lost, f"{len(lost)} acknowledged events are lost: {sorted(lost)[:3]}"
        invented = stored.keys() - self.sent.keys()
        assert not invented, f"{len(invented)} events were never sent: {sorted(invented)[:3]}"
        for identity, data in stored.items():
            assert data == self.sent[identity], identity


def body_of(batch: Mapping[str, str]) -> bytes:
    """The events as a JSON array."""
    return (
        b"[%s]"
        % ",".join(
            f'{{"id":"{identity}","source":"load","type":"used","subject":"c","data":{data}}}'
            for identity, data in batch.items()
        ).encode()
    )


class Sender:
    """One connection that posts one body after another until told to stop."""

    def __init__(self, name: str, address: tuple[str, int], key: str, books: Books) -> None:
        self._name = name
        self.address = address
        self._key = key
        self._books = books
        self._number = 0
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, rng: random.Random, stop: asyncio.Event) -> None:
        """Post bodies of several sizes; the last one is answered, too."""
        while not stop.is_set():
            await self.post(rng.choice(SIZES), rng)
        self.close()

    async def post(self, size: int, rng: random.Random) -> None:
        """Post ``size`` new events until they are acknowledged."""
        batch = {}
        for _ in range(size):
            self._number += 1
            batch[f"{self._name}-{self._number}"] = f'{{"n":{rng.randrange(10**9)}}}'
        self._books.sent |= batch
        await self._until_acknowledged(batch)

    async def repeat(self, events: Mapping[str, str], *, at_once: int = 5_000) -> tuple[int, int]:
        """Post ``events`` again; how many were accepted, and how many known already."""
        accepted = duplicates = 0
        identities = list(events)
        for at in range(0, len(identities), at_once):
            body = body_of({each: events[each] for each in identities[at : at + at_once]})
            while (attempt := await self._attempt(body))[0] != 200:
                await asyncio.sleep(PAUSE_S)
            reply = json.loads(attempt[1])
            accepted += reply["accepted"]
            duplicates += reply["duplicates"]
        self.close()
        return accepted, duplicates

    async def _until_acknowledged(self, batch: dict[str, str]) -> None:
        books, attempts, body = self._books, 0, body_of(batch)
        while True:
            books.requests += 1
            attempts += 1
            status, answer = await self._attempt(body)
            if status == 200:
                break
            if status in {503, 507}:
                books.refused += 1
            elif status:
                books.surprises.append(f"{status}: {answer!r}")
            else:
                books.broken += 1
            await asyncio.sleep(PAUSE_S)
        reply = json.loads(answer)
        told = (reply["accepted"], reply["duplicates"])
        whole = told == (0, len(batch)) and attempts > 1
        if told != (len(batch), 0) and not whole:
            books.surprises.append(f"a body of {len(batch)}, sent {attempts} times: {reply}")
        books.answers_lost += whole
        books.acknowledged |= batch

    async def _attempt(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 when there was none."""
        try:
            if self._connection is None:
                self._connection = await asyncio.open_connection(*self.address)
            return await asyncio.wait_for(self._exchange(*self._connection, body), ANSWER_S_MAX)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            return 0, b""

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
    ) -> tuple[int, bytes]:
        writer.write(
            b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            + f"authorization: Bearer {self._key}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        answer = await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head.split(None, 2)[1]), answer

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            with contextlib.suppress(RuntimeError):
                self._connection[1].close()
            self._connection = None


class Load:
    """Several senders at once. Used with ``async with``; at its end all are answered."""

    def __init__(
        self, address: tuple[str, int], key: str, rng: random.Random, *, books: Books, senders: int
    ) -> None:
        self.books = books
        self._stop = asyncio.Event()
        self._rng = rng
        prefix = f"{rng.getrandbits(40):x}"
        self.senders = [Sender(f"{prefix}-{n}", address, key, books) for n in range(senders)]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for sender in self.senders:
            rng = random.Random(self._rng.random())
            self._tasks.append(asyncio.create_task(sender.run(rng, self._stop)))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=kind is not None), 60)

    async def acknowledges(self, more: int = 1, *, within_s: float = 60) -> None:
        """Wait until so many more events are acknowledged."""
        wanted = len(self.books.acknowledged) + more
        async with asyncio.timeout(within_s):
            while len(self.books.acknowledged) < wanted:
                await asyncio.sleep(0.005)
