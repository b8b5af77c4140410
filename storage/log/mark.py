"""How far a node's log is durable, told by the gateway to whoever tails it.

A few bytes mapped by both processes. Two slots are written in turn, each with a generation and a
checksum: a reader that meets a write half done takes the other slot, which is older and true.
The marks are not synced: after a power cut an older one may be there, never a newer one, because
the kernel got it after the data was on disk.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from storage.log.files import Files, SharedBytes

_SLOT = struct.Struct("<Qqqqq")  # generation, file, offset, seq, received_at
_CRC = struct.Struct("<I")
_SLOT_BYTES = 64
MARK_BYTES = 2 * _SLOT_BYTES


class Mark(NamedTuple):
    """The log is durable up to ``offset`` of the hot file that begins with seq ``file``.

    ``seq`` and ``received_at`` are the last durable record's (0: none yet). Hot files before
    ``file`` are closed.
    """

    file: int
    offset: int
    seq: int
    received_at: int


NOTHING = Mark(0, 0, 0, 0)


def _encode(generation: int, mark: Mark) -> bytes:
    body = _SLOT.pack(generation, *mark)
    return body + _CRC.pack(google_crc32c.value(body))


def _decode(data: bytes) -> tuple[int, Mark]:
    """The newest intact slot of ``data``; generation 0 when there is none."""
    best = (0, NOTHING)
    for at in (0, _SLOT_BYTES):
        body = data[at : at + _SLOT.size]
        (checksum,) = _CRC.unpack_from(data, at + _SLOT.size)
        generation, *fields = _SLOT.unpack(body)
        if generation > best[0] and checksum == google_crc32c.value(body):
            best = (generation, Mark(*fields))
    return best


class MarkWriter:
    """The gateway's side. It starts from what an earlier process left."""

    def __init__(self, path: Path, *, files: Files) -> None:
        self._shared: SharedBytes = files.share(path, MARK_BYTES, create=True)
        self._generation, self.found = _decode(self._shared.read())

    def write(self, mark: Mark) -> None:
        """Show ``mark`` to the readers. Call it only once the data it covers is durable."""
        self._generation += 1
        at = self._generation % 2 * _SLOT_BYTES
        self._shared.write(_encode(self._generation, mark), at)

    def close(self) -> None:
        """Unmap."""
        self._shared.close()


class MarkReader:
    """The other processes' side. The file may not be there yet."""

    def __init__(self, path: Path, *, files: Files) -> None:
        self._path = path
        self._files = files
        self._shared: SharedBytes | None = None
        self._seen = b""
        self._generation, self._mark = 0, NOTHING

    def read(self) -> Mark:
        """The newest mark. Costs one copy of 128 bytes when nothing has changed."""
        if self._shared is None and not self._attach():
            return NOTHING
        assert self._shared is not None
        data = self._shared.read()
        if data != self._seen:
            generation, mark = _decode(data)
            if generation > self._generation:  # else both slots were torn: the old mark is true
                self._generation, self._mark = generation, mark
                self._seen = data
        return self._mark

    def _attach(self) -> bool:
        try:
            self._shared = self._files.share(self._path, MARK_BYTES, create=False)
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """Unmap."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None
