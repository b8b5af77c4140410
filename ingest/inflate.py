"""Content-Encoding undone, within limits: a kilobyte may claim to be a gigabyte."""

from __future__ import annotations

import io
import zlib

import zstandard

from ingest.batch import BodyTooLarge, IngestLimits, UnreadableBody, UnsupportedMediaType

_STEP_BYTES = 64 * 1024
_GZIP_WINDOW = 31
_MEMBERS_MAX = 1_000
_ZSTD_STEP_BYTES = 256
"""The densest zstd block makes 128 KiB of 4 bytes, so one step makes 8 MiB at most."""

_ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024
"""What RFC 9659 lets an encoder use for HTTP."""


def inflate(content: bytes, encoding: str, limits: IngestLimits) -> bytes:
    """Undo ``encoding``: ``gzip``, ``zstd``, or nothing. Several members or frames are one body.

    Raises:
        UnsupportedMediaType: an encoding (or a chain of them) that is not read here.
        UnreadableBody: the content is not in that encoding, or ends early.
        BodyTooLarge: it inflates beyond the limit, or by more than the ratio allowed.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return content
        case "gzip" | "x-gzip":
            return _gunzip(content, limits)
        case "zstd":
            return _unzstd(content, limits)
        case _:
            raise UnsupportedMediaType(f"bodies are not read from Content-Encoding {encoding}")


class _Output:
    """What has come out so far, as long as it stays within the limits.

    In one piece: thousands of small ones would leave as many holes in an allocator's arena, and
    every thread has its own.
    """

    def __init__(self, size_bytes: int, limits: IngestLimits) -> None:
        by_ratio = max(size_bytes * limits.inflation_ratio_max, _STEP_BYTES)
        self._bytes_max = min(limits.inflated_bytes_max, by_ratio)
        self._size_bytes = 0
        self._whole = io.BytesIO()

    def add(self, part: bytes) -> None:
        self._size_bytes += len(part)
        if self._size_bytes > self._bytes_max:
            self._whole.close()  # the error's traceback holds this frame for as long as it lives
            raise BodyTooLarge(f"the body inflates to more than {self._bytes_max} bytes")
        self._whole.write(part)

    def joined(self) -> bytes:
        return self._whole.getvalue()


def _gunzip(content: bytes, limits: IngestLimits) -> bytes:
    output = _Output(len(content), limits)
    place = 0
    try:
        for _ in range(_MEMBERS_MAX):
            place = _padding_end(content, _gunzip_member(content, place, output))
            if place == len(content):
                return output.joined()
    except zlib.error as error:
        raise UnreadableBody(f"the body is not gzip: {error}") from None
    raise UnreadableBody(f"the gzip body has more than {_MEMBERS_MAX} members")


def _gunzip_member(content: bytes, place: int, output: _Output) -> int:
    """Inflate the member that begins at ``place``; answers where it ends."""
    member = zlib.decompressobj(_GZIP_WINDOW)
    while place < len(content):
        rest = content[place : place + _STEP_BYTES]
        place += len(rest)
        while rest and not member.eof:
            output.add(member.decompress(rest, _STEP_BYTES))
            rest = member.unconsumed_tail
        if member.eof:
            return place - len(member.unused_data)
    output.add(member.flush())
    if not member.eof:
        raise UnreadableBody("the gzip body ends early")
    return place


def _padding_end(content: bytes, place: int) -> int:
    """Zeros may follow a member."""
    while content[place : place + 1] == b"\x00":
        place += 1
    return place


def _unzstd(content: bytes, limits: IngestLimits) -> bytes:
    output = _Output(len(content), limits)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    place = 0
    try:
        for _ in range(_MEMBERS_MAX):
            place = _unzstd_frame(content, place, decompressor, output)
            if place == len(content):
                return output.joined()
    except zstandard.ZstdError as error:
        raise UnreadableBody(f"the body is not zstd: {error}") from None
    raise UnreadableBody(f"the zstd body has more than {_MEMBERS_MAX} frames")


def _unzstd_frame(
    content: bytes, place: int, decompressor: zstandard.ZstdDecompressor, output: _Output
) -> int:
    """Inflate the frame that begins at ``place``; answers where it ends."""
    frame = decompressor.decompressobj()
    while place < len(content):
        step = content[place : place + _ZSTD_STEP_BYTES]
        place += len(step)
        output.add(frame.decompress(step))
        if frame.eof:
            return place - len(frame.unused_data)
    raise UnreadableBody("the zstd body ends early")
