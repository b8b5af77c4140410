"""One bit turned over at rest, in what is durable: it must be found, named, and nothing cut."""

from __future__ import annotations

from collections import Counter
from random import Random

from storage.log.follower import LogFollower
from storage.log.frames import LogCorrupt, LogTooNew
from storage.log.layout import MARK_NAME, hot_name, read_layout
from storage.log.mark import MarkReader
from storage.log.node_log import NodeLog
from storage.log.verify import verify_segments
from tests.simulation.files import Disk, ProcessFiles, Rates
from tests.simulation.gateway import Gateway
from tests.simulation.oracle import require


def flip_and_find(disk: Disk, gateway: Gateway, chance: Random, seen: Counter[str]) -> None:
    """Turn a bit over while the gateway is down, look for it, and put it back."""
    directory = gateway.directory
    mark = MarkReader(directory / MARK_NAME, files=disk).read()
    layout = read_layout(directory, files=disk)
    sizes = {
        directory / hot_name(first): mark.offset if first == mark.file else None
        for first in layout.hots
    }
    for segment in layout.segments:
        sizes |= {directory / f"{segment.stem}{end}": None for end in (".parquet", ".json")}
    kind = chance.choice(sorted({path.suffix for path in sizes}))  # of most kinds there are few
    path = chance.choice(sorted(path for path in sizes if path.suffix == kind))
    size = sizes[path] or len(disk.read(path))
    if not size:
        return
    content = disk.read(path)
    disk.flip(path, chance.randrange(8 * size))
    damaged = disk.read(path)
    found = _opened(disk, gateway) or _read(disk, gateway) or _verified(disk, gateway)
    require(found, f"a bit of {path.name} was turned over and nobody noticed")
    seen[f"flip found: {found} {path.suffix}"] += 1
    seen["bit flip found"] += 1
    require(disk.read(path) == damaged, f"{path.name} was changed after damage was found")
    disk.overwrite(path, content)


def _opened(disk: Disk, gateway: Gateway) -> str | None:
    """Whether recovery refuses."""
    files = ProcessFiles(disk, Rates())
    try:
        NodeLog.open(
            gateway.directory,
            node=gateway.name,
            clock=gateway._clock,
            files=files,
            limits=gateway.settings.log,
        )
    except (LogCorrupt, LogTooNew):
        return "opening"
    finally:
        files.die()
    return None


def _read(disk: Disk, gateway: Gateway) -> str | None:
    """Whether a follower that reads everything refuses."""
    follower = LogFollower(gateway.directory, gateway.name, files=disk)
    seq = 0
    try:
        while (records := follower.read_after(seq, rows_max=1_000)).height:
            seq = int(records["seq"][-1])
    except (LogCorrupt, LogTooNew):
        return "reading"
    return None


def _verified(disk: Disk, gateway: Gateway) -> str | None:
    """Whether verify names it."""
    difference = verify_segments(gateway.directory, node=gateway.name, files=disk)
    return None if difference is None else "verify"
