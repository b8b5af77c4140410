"""Where a server's time goes: py-spy beside a run. It costs a few percent, so figures are for a hint."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.gate import BenchFailed
from bench.processes import Process, pinned

SAMPLES_PER_S = 200
TOP = 25


@contextlib.contextmanager
def profiled(process: Process, out: Path | None, *, core: int) -> Iterator[None]:
    """Sample ``process`` into ``out`` (folded stacks) and print what it was doing; None does nothing.

    Raises:
        BenchFailed: py-spy is not installed.
    """
    if out is None:
        yield
        return
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if spy is None:
        raise BenchFailed("profiles are made by py-spy: pip install -e '.[bench]'")
    out.parent.mkdir(parents=True, exist_ok=True)
    recorder = subprocess.Popen(
        [
            *(spy, "record", "--pid", str(process.popen.pid), "--output", out),
            *("--format", "raw", "--rate", str(SAMPLES_PER_S), "--nonblocking", "--threads"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=pinned(core),
    )
    time.sleep(1)
    try:
        yield
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
    print(summary(out))


def summary(folded: Path) -> str:
    """The functions most samples were in: by themselves, and with what they called."""
    itself: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in folded.read_text().splitlines():
        stack, _, times = line.rpartition(" ")
        frames = stack.split(";")
        total += int(times)
        itself[frames[-1]] += int(times)
        for frame in set(frames):
            whole[frame] += int(times)
    lines = [f"  profile: {total} samples, {folded}"]
    for title, counted in (("in itself", itself), ("with what it calls", whole)):
        lines.append(f"  {title}:")
        lines += [f"    {n / total:6.1%} {frame}" for frame, n in counted.most_common(TOP)]
    return "\n".join(lines)
