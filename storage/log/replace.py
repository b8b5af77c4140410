"""Small files that are whole or absent: written aside, made durable, then renamed into place."""

from __future__ import annotations

from pathlib import Path

from storage.log.files import Files
from storage.log.layout import PARTIAL_SUFFIX


def replace_file(path: Path, content: bytes, *, files: Files) -> None:
    """Make ``content`` the file's, durably; a crash leaves the old file or the new one.

    A partial file left by an earlier crash is overwritten.

    Raises:
        OSError: any step failed; ``path`` is as it was.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    if partial.name in files.names(path.parent):
        files.unlink(partial)
    file = files.create(partial)
    try:
        file.write_at([content], 0)
        file.fdatasync()
    finally:
        file.close()
    files.rename(partial, path)
    files.fsync_dir(path.parent)
