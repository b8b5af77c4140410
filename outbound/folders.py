"""Files into a folder under the one root: whole or not there at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from outbound.webhooks import DeliveryFailed

PARTIAL = ".partial"


class Folders:
    """The root below which every file destination lies."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, folder: str, name: str, content: bytes) -> Path:
        """Put a file there, fsynced, in one step; one of the same name is replaced.

        Readers see the old file, the new one, or none: never a part.

        Raises:
            DeliveryFailed: it could not be written, and nothing of it is left; or the folder
                leads out of the root.
        """
        try:
            return self._write(folder, name, content)
        except OSError as error:
            raise DeliveryFailed(f"{folder}/{name}: {error.strerror or error}") from error

    def _write(self, folder: str, name: str, content: bytes) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        root = self._root.resolve()
        target = root / folder
        # A link put there by whoever owns the folder must not lead the service elsewhere.
        if not target.resolve().is_relative_to(root):
            raise DeliveryFailed(f"the folder {folder} leads out of the export root")
        target.mkdir(parents=True, exist_ok=True)
        partial = target / f".{name}.{secrets.token_hex(4)}{PARTIAL}"
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target / name)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync(target)
        return target / name


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
