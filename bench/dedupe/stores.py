"""Four ways to keep identities: ours, and the three it is measured against.

Each is asked the same: keep what is new of a batch, and say how many were known. What the others
are handed is made ready outside the timing and is the 16-byte key, so they pay for no hashing; ours
is handed the texts and hashes them.
"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import hiredis
import numpy as np
from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from bench.dedupe.identities import Identities, batches, identities, mixed
from bench.processes import Process
from catalog.clock import Micros
from catalog.ids import NodeId, Seq
from ingest.identity import Identities as Hashed
from ingest.identity import identify
from storage.log.frames import Stored
from storage.log.identity_index import DAY_US, DiskIdentityIndex, IndexLimits
from storage.redis.valkey import answers, valkey_command

NODE = NodeId("n1")
TABLE_ROWS = IndexLimits().table_rows
ROCKS_CACHE_BYTES, ROCKS_BUFFER_BYTES = 2 << 30, 256 << 20
RETAINED_KEY = "retained"
SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "cache_size=-1048576",
    "mmap_size=17179869184",
    "wal_autocheckpoint=65536",  # 256 MiB; by default random keys make it checkpoint every batch
)
RETAINED_DAYS = 25
Say = Callable[[str], None]


class Store(Protocol):
    """What keeps identities."""

    def ready(self, batch: Identities) -> Any:
        """``batch`` as :meth:`add` takes it; not timed."""

    def add(self, batch: Any) -> int:
        """Keep what is new; how many were known before."""

    def settle(self) -> None:
        """Finish what it does in the background; timed."""

    def close(self) -> None:
        """Let go of everything."""


class RetainedLog:
    """A log of ``count`` records that the index covers: there is nothing to read from it again."""

    def __init__(self, count: int, last_received_at: int) -> None:
        self.node = NODE
        self.next_seq = Seq(count + 1)
        self.last_received_at = Micros(last_received_at)

    def stored_after(self, seq: int, *, rows_max: int) -> list[Stored]:
        """Nothing."""
        del seq, rows_max
        return []

    def seq_before(self, received_at: int) -> Seq:
        """Nothing is older than the window."""
        del received_at
        return Seq(0)


class OurIndex:
    """The identity index of a node, as the gateway opens it."""

    def __init__(self, directory: Path, *, count: int, last_received_at: int) -> None:
        log = RetainedLog(count, last_received_at)
        self._index = DiskIdentityIndex.open(directory, log)
        self._next = count + 1
        self._received_at = last_received_at + 1

    @classmethod
    def build(cls, directory: Path, count: int, *, now_us: int, say: Say) -> None:
        """Fill an index with ``count`` identities (whole tables) received over the last weeks."""
        first_us = now_us - RETAINED_DAYS * DAY_US
        spacing_us = RETAINED_DAYS * DAY_US // count
        index = DiskIdentityIndex.open(directory, RetainedLog(0, 0), background=False)
        # The last identity by itself, so that the checkpoint covers all the others.
        last = identities(np.array([count - 1], np.uint64))
        for batch in chain(batches(0, count - 1, TABLE_ROWS), [last]):
            at = int(batch.numbers[0])
            received_at = Micros(first_us + at * spacing_us)
            ids = _hashed(batch, index)
            index.probe(ids)
            index.insert(ids, first_seq=Seq(at + 1), received_at=received_at)
            index.maintain()
            _tell(say, "the index", at, count)
        index.close()

    def ready(self, batch: Identities) -> Identities:
        """The texts: hashing them is ours to pay."""
        return batch

    def add(self, batch: Identities) -> int:
        """Hash, probe, then insert what is new."""
        ids = _hashed(batch, self._index)
        new = self._index.probe(ids).seq == 0
        rows = int(np.count_nonzero(new))
        kept = ids if rows == len(ids) else ids.keep(new)
        self._index.insert(kept, first_seq=Seq(self._next), received_at=Micros(self._received_at))
        self._next += rows
        self._received_at += rows
        return batch.count - rows

    def settle(self) -> None:
        """Write and merge what waits."""
        self._index.maintain()

    def close(self) -> None:
        """Stop its thread."""
        self._index.close()


def _hashed(batch: Identities, index: DiskIdentityIndex) -> Hashed:
    low, high = identify(batch.source, batch.id, key=index.key)
    return Hashed(low, high, batch.content)


class Sqlite:
    """A table without rowid, 16-byte keys; WAL, synchronous=NORMAL, a transaction a batch."""

    CREATE = "CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, content INTEGER) WITHOUT ROWID"
    INSERT = "INSERT OR IGNORE INTO kept VALUES (?, ?)"

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in SQLITE_PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(self.CREATE)

    @classmethod
    def build(cls, path: Path, count: int, *, say: Say) -> None:
        """Fill a table, in the order of its keys: the quickest way."""
        store = cls(path)
        store._connection.execute("PRAGMA synchronous=OFF")
        for at, batch in sorted_batches(count):
            store.add(store.ready(batch))
            _tell(say, "SQLite", at, count)
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.close()

    def ready(self, batch: Identities) -> list[tuple[bytes, int]]:
        """Rows."""
        return _rows(batch)

    def add(self, batch: list[tuple[bytes, int]]) -> int:
        """One transaction."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        added = connection.executemany(self.INSERT, batch).rowcount
        connection.execute("COMMIT")
        return len(batch) - added

    def settle(self) -> None:
        """Its checkpoints run with its commits."""

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


class Rocks:
    """RocksDB by rocksdict: raw keys, Bloom filters, WAL without sync, a WriteBatch a batch.

    A WriteBatch does not say what was known, so that is asked first where ``exact``.
    """

    def __init__(self, path: Path, *, exact: bool = True) -> None:
        self._store = Rdict(str(path), _rocks_options())
        self._exact = exact

    @classmethod
    def build(cls, path: Path, count: int, *, say: Say) -> None:
        """Fill it in the order of its keys, then compact it."""
        store = cls(path, exact=False)
        for at, batch in sorted_batches(count):
            store.add(store.ready(batch))
            _tell(say, "RocksDB", at, count)
        store._store.flush()
        store._store.compact_range(None, None)
        store.close()

    def ready(self, batch: Identities) -> list[tuple[bytes, bytes]]:
        """Keys and values as bytes."""
        return [(key, value.to_bytes(8, "little", signed=True)) for key, value in _rows(batch)]

    def add(self, batch: list[tuple[bytes, bytes]]) -> int:
        """Look all up, then write what is new."""
        known = 0
        if self._exact:
            found: list[Any] = self._store.get([key for key, _ in batch]) or []
            known = sum(value is not None for value in found)
            if known:
                pairs = zip(batch, found, strict=True)
                batch = [row for row, value in pairs if value is None]
        writes = WriteBatch(raw_mode=True)
        for key, value in batch:
            writes.put(key, value)
        self._store.write(writes)
        return known

    def settle(self) -> None:
        """Its flushes and compactions are not waited for: they may finish after the timing."""

    def close(self) -> None:
        """Close the database."""
        self._store.close()


class Redis:
    """Valkey on a core of its own, nothing persisted; ``pipelined`` commands SET NX at a time.

    They are encoded outside the timing, so it pays for no client but the reading of replies.
    Retained keys are made by the server itself: ``retained:<number>``.
    """

    def __init__(
        self, directory: Path, *, core: int, retained: int, pipelined: int, say: Say
    ) -> None:
        self._pipelined = pipelined
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "valkey.sock"
        command = valkey_command(path, memory_max="16gb")
        command += ["--enable-debug-command", "local"]
        self.process = Process(command, core=core, log=directory / "valkey.log")
        self.process.wait_until(lambda: answers(path), what="a Valkey")
        self._retained = retained
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._reader = hiredis.Reader()
        say(f"  Valkey makes {retained:,} keys")
        self._socket.sendall(f"DEBUG POPULATE {retained} {RETAINED_KEY} 8\r\n".encode())
        self._replies(1)

    def ready(self, batch: Identities) -> list[tuple[bytes, int]]:
        """The bytes of each pipeline, and how many commands are in it."""
        rows = zip(batch.numbers.tolist(), _rows(batch), strict=True)
        parts = [self._command(number, key, content) for number, (key, content) in rows]
        cut = [parts[at : at + self._pipelined] for at in range(0, len(parts), self._pipelined)]
        return [(b"".join(commands), len(commands)) for commands in cut]

    def _command(self, number: int, key: bytes, content: int) -> bytes:
        if number < self._retained:
            key = f"{RETAINED_KEY}:{number}".encode()
        value = content.to_bytes(8, "little", signed=True)
        head = b"*4\r\n$3\r\nSET\r\n$%d\r\n" % len(key)
        return head + key + b"\r\n$8\r\n" + value + b"\r\n$2\r\nNX\r\n"

    def add(self, batch: list[tuple[bytes, int]]) -> int:
        """Send each pipeline and read its replies: nil is a key that was there."""
        known = 0
        for commands, count in batch:
            self._socket.sendall(commands)
            known += self._replies(count).count(None)
        return known

    def _replies(self, count: int) -> list[Any]:
        replies: list[Any] = []
        while len(replies) < count:
            self._reader.feed(self._socket.recv(1 << 20))
            while (reply := self._reader.gets()) is not False:
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
                replies.append(reply)
        return replies

    def settle(self) -> None:
        """Nothing is kept on disk."""

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self.process.__exit__()


def _rows(batch: Identities) -> list[tuple[bytes, int]]:
    content = batch.content.view(np.int64).tolist()
    return list(zip(batch.keys.to_list(), content, strict=True))


def sorted_batches(count: int) -> Iterator[tuple[int, Identities]]:
    """Every retained identity in the order of the keys, with how many came before."""
    order = np.argsort(mixed(np.arange(0, 2 * count, 2, dtype=np.uint64)).byteswap())
    for at in range(0, count, TABLE_ROWS):
        yield at, identities(order[at : at + TABLE_ROWS].astype(np.uint64))


def _tell(say: Say, who: str, at: int, count: int) -> None:
    if at // TABLE_ROWS % 40 == 0:
        say(f"  building {who}: {at:,} of {count:,}")


def _rocks_options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    table = BlockBasedOptions()
    table.set_bloom_filter(10, block_based=False)
    table.set_block_cache(Cache(ROCKS_CACHE_BYTES))
    table.set_cache_index_and_filter_blocks(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(ROCKS_BUFFER_BYTES)
    options.set_max_background_jobs(4)
    options.set_compression_type(DBCompressionType.none())
    return options
