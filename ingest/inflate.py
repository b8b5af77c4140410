"""Content-Encoding undone, within limits: a kilobyte may claim to be a gigabyte."""

from __future__ import annotations

import io
import zlib

import zstandard

from ingest.batch import BodyTooLarge, IngestLimits, UnreadableBody, UnsupportedMediaType

_STEP_BYTES = 64 * 1024
_GZIP_WINDOW = 31
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
    """What has come out so far, as long as it stays within the limits."""

    def __init__(self, size_bytes: int, limits: IngestLimits) -> None:
        by_ratio = max(size_bytes * limits.inflation_ratio_max, _STEP_BYTES)
        self._bytes_max = min(limits.inflated_bytes_max, by_ratio)
        self._size_bytes = 0
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self._size_bytes += len(part)
        if self._size_bytes > self._bytes_max:
            raise BodyTooLarge(f"the body inflates to more than {self._bytes_max} bytes")
        self._parts.append(part)

    def joined(self) -> bytes:
        return b"".join(self._parts)


def _gunzip(content: bytes, limits: IngestLimits) -> bytes:
    output = _Output(len(content), limits)
    rest = content
    try:
        while rest:
            member = zlib.decompressobj(_GZIP_WINDOW)
            while rest and not member.eof:
                output.add(member.decompress(rest, _STEP_BYTES))
                rest = member.unconsumed_tail
            if not member.eof:
                output.add(member.flush())
            if not member.eof:
                raise UnreadableBody("the gzip body ends early")
            rest = member.unused_data.lstrip(b"\x00")  # padding after a member is allowed
    except zlib.error as error:
        raise UnreadableBody(f"the body is not gzip: {error}") from None
    return output.joined()


def _unzstd(content: bytes, limits: IngestLimits) -> bytes:
    output = _Output(len(content), limits)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    rest = content
    try:
        while rest:
            frame = decompressor.decompressobj()
            for start in range(0, len(rest), 1024):  # a step of input inflates to bounded output
                output.add(frame.decompress(rest[start : start + 1024]))
                if frame.eof:
                    rest = frame.unused_data + rest[start + 1024 :]
                    break
            else:
                raise UnreadableBody("the zstd body ends early")
    except zstandard.ZstdError as error:
        raise UnreadableBody(f"the body is not zstd: {error}") from None
    return output.joined()


def _reader(content: bytes) -> io.BytesIO:
    return io.BytesIO(content)
