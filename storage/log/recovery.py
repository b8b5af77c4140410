"""Opening the newest hot file after whatever happened to the last process.

Frames that are whole are kept, acknowledged or not; a torn tail is cut. Anything else that cannot
be read was durable once, and stops the node: it is named, never cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.log.files import File, Files
from storage.log.frames import (
    HEADER_BYTES_MAX,
    Damage,
    LogCorrupt,
    decode_header,
    encode_header,
    later_frames,
)
from storage.log.hot import HotFile, check_owner
from storage.log.layout import hot_name
from storage.log.mark import NOTHING, Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What opening a log found: bytes cut from a torn tail, records that had no durable mark."""

    cut_bytes: int = 0
    unmarked_records: int = 0


def recover_hot(
    directory: Path, *, first_seq: int, node: str, mark: Mark, files: Files
) -> tuple[HotFile, Recovered]:
    """Open the newest hot file for appending; all of it is durable on return.

    Raises:
        LogCorrupt: damage to what was durable.
        LogTooNew: written by a newer release.
    """
    path = directory / hot_name(first_seq)
    file = files.reopen(path)
    if mark.file != first_seq:
        mark = NOTHING
    size = file.size()
    hot = _open_header(file, path, first_seq=first_seq, node=node, mark=mark)
    _walk(hot, file, mark=mark)
    cut_bytes = max(0, size - hot.end)
    if file.size() > hot.end:
        hot.cut()
    hot.rewrite(mark.offset)
    hot.sync()
    files.fsync_dir(directory)
    known = mark.seq if mark is not NOTHING else hot.first_seq - 1
    unmarked = hot.next_seq - 1 - known
    return hot, Recovered(cut_bytes=cut_bytes, unmarked_records=unmarked)


def _open_header(file: File, path: Path, *, first_seq: int, node: str, mark: Mark) -> HotFile:
    try:
        header = decode_header(file.pread(HEADER_BYTES_MAX, 0), file=str(path))
        check_owner(header, node=node, first_seq=first_seq)
    except Damage as damage:
        # The process died while it made the file, before anything could be put into it.
        data = file.pread(file.size(), 0)
        if mark is not NOTHING or next(later_frames(data, -1), None) is not None:
            raise LogCorrupt(str(damage), file=str(path), offset=0) from damage
        fresh = encode_header(node, first_seq)
        file.truncate(0)
        file.write_at([fresh], 0)
        header = decode_header(fresh, file=str(path))
    return HotFile(file, path, header)


def _walk(hot: HotFile, file: File, *, mark: Mark) -> None:
    size = file.size()
    reason = "the file is shorter than what is durable"
    try:
        hot.walk(size)
    except Damage as damage:
        reason = str(damage)
        tail = file.pread(size - hot.end, hot.end)
        if any(frame.synced > hot.end for frame in later_frames(tail, 0)):
            reason += ", yet later frames were written after it was durable"
            raise LogCorrupt(reason, file=str(hot.path), offset=hot.end) from damage
    if hot.end < mark.offset:
        raise LogCorrupt(reason, file=str(hot.path), offset=hot.end)
