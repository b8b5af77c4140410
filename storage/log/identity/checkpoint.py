"""What an index may be opened from: which runs there are, and up to where they cover the log."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from storage.log.files import Files
from storage.log.identity.run import RunRange
from storage.log.replace import replace_file

CHECKPOINT_VERSION = 2
CHECKPOINT_NAME = "checkpoint"


class NoCheckpoint(Exception):
    """There is none that this release can use: the index is made again from the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Runs and ``voids`` hold whatever the log says up to the record ``seq``, and maybe more.

    Identities older than ``window_us`` may be missing.
    ``key`` is the secret the identities were hashed with.
    """

    node: str
    window_us: int
    seq: int
    key: tuple[int, int]
    runs: tuple[RunRange, ...]
    voids: frozenset[int]


def _digest(document: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def write_checkpoint(directory: Path, checkpoint: Checkpoint, *, files: Files) -> None:
    """Replace the checkpoint. Durable on return; a crash leaves the old one or the new one."""
    voids = np.array(sorted(checkpoint.voids), "<i8").tobytes()
    document: dict[str, object] = {
        "format": CHECKPOINT_VERSION,
        "node": checkpoint.node,
        "window_us": checkpoint.window_us,
        "seq": checkpoint.seq,
        "key": list(checkpoint.key),
        "runs": [asdict(run) for run in checkpoint.runs],
        "voids_crc32c": google_crc32c.value(voids),
    }
    head = json.dumps({**document, "digest": _digest(document)}).encode()
    replace_file(directory / CHECKPOINT_NAME, head + b"\n" + voids, files=files)


def read_checkpoint(directory: Path, *, node: str, files: Files) -> Checkpoint:
    """Read the checkpoint in ``directory``.

    Raises:
        NoCheckpoint: there is none, it is damaged, or of another format.
    """
    try:
        content = bytes(files.view(directory / CHECKPOINT_NAME))
        head, _, voids = content.partition(b"\n")
        document = json.loads(head)
        digest = document.pop("digest")
        if digest != _digest(document) or google_crc32c.value(voids) != document["voids_crc32c"]:
            raise NoCheckpoint("damaged")
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise NoCheckpoint(str(error)) from error
    made_by = (document["format"], document["node"])
    if made_by != (CHECKPOINT_VERSION, node):
        raise NoCheckpoint(f"made by {made_by}")
    return Checkpoint(
        node=node,
        window_us=document["window_us"],
        seq=document["seq"],
        key=tuple(document["key"]),
        runs=tuple(RunRange(**run) for run in document["runs"]),
        voids=frozenset(np.frombuffer(voids, "<i8").tolist()),
    )


def drop_others(directory: Path, keep: frozenset[str], *, files: Files) -> None:
    """Remove every file that no checkpoint names: what a crash or a rebuild left behind."""
    for name in files.names(directory):
        if name not in keep:
            files.unlink(directory / name)
