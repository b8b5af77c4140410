"""What is retained before anything is measured: built once, kept in the cache, copied for each run."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.dedupe.stores import RETAINED_DAYS, TABLE_ROWS, OurIndex, Rocks, Sqlite
from bench.registry import Context
from storage.log.identity_index import DAY_US

FULL = -(-50_000_000 // TABLE_ROWS) * TABLE_ROWS
QUICK = 20 * TABLE_ROWS
FRESH_DAYS = 5
Build = Callable[[Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """Where one store's retained identities are, how many, and when the last was received."""

    path: Path
    count: int
    last_received_at: int
    built_s: float


def retained(context: Context, name: str) -> Retained:
    """The retained identities of one store (``ours``, ``sqlite``, ``rocksdb``), built if need be.

    What is older than :data:`FRESH_DAYS` is built again: the window would begin to drop some of it.
    """
    count = context.size(FULL, QUICK)
    home = context.cache / f"retained-{count}" / name
    stamp = home / "built.json"
    now_us = time.time_ns() // 1_000
    if stamp.exists():
        known = json.loads(stamp.read_text())
        if now_us - known["last_received_at"] < FRESH_DAYS * DAY_US:
            return Retained(path=home / "kept", count=count, **known)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    began_s = time.monotonic()
    _build(name, home / "kept", count, now_us, context)
    spacing_us = RETAINED_DAYS * DAY_US // count
    known = {
        "last_received_at": now_us - RETAINED_DAYS * DAY_US + count * spacing_us,
        "built_s": round(time.monotonic() - began_s, 1),
    }
    stamp.write_text(json.dumps(known))
    context.say(f"  built {count:,} identities for {name} in {known['built_s']} s")
    return Retained(path=home / "kept", count=count, **known)


def _build(name: str, path: Path, count: int, now_us: int, context: Context) -> None:
    if name == "ours":
        path.mkdir()
        OurIndex.build(path, count, now_us=now_us, say=context.say)
    elif name == "sqlite":
        Sqlite.build(path, count, say=context.say)
    else:
        Rocks.build(path, count, say=context.say)


def copied(source: Path, target: Path) -> Path:
    """A copy to be written to; immutable files are shared as hard links where that is possible."""
    if source.is_file():
        shutil.copyfile(source, target)
        return target
    target.mkdir()
    for path in source.iterdir():
        if path.suffix in {".ids", ".sst"} and path.stat().st_dev == target.stat().st_dev:
            os.link(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)
    return target


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a directory."""
    files = [path] if path.is_file() else [each for each in path.iterdir() if each.is_file()]
    return sum(each.stat().st_size for each in files)
