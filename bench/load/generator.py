"""The load generator (``loadgen.c``): compiled when first needed, run pinned, read back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from bench.gate import BenchFailed
from bench.processes import pinned

SOURCE = Path(__file__).with_name("loadgen.c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How requests are sent.

    ``rate`` 0 is a closed loop; otherwise Poisson arrivals at so many requests a second.
    ``seconds_max`` 0 sends the whole file.
    """

    connections: int
    rate: float = 0
    seconds_max: float = 0
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of it. ``latencies_ns`` has one entry a request, -1 where there is no answer."""

    requests: int
    sent: int
    answered: int
    accepted: int
    duplicates: int
    with_rejections: int
    elapsed_s: float
    cpu_s: float
    waiting_max: int
    statuses: dict[str, int]
    latencies_ns: npt.NDArray[np.int64]

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.answered / self.elapsed_s

    def percentile_ms(self, percent: float) -> float:
        """A latency percentile of what was answered."""
        answered = self.latencies_ns[self.latencies_ns >= 0]
        return float(np.percentile(answered, percent)) / 1e6


class Generator:
    """The compiled generator, on one core of its own."""

    def __init__(self, binary: Path, *, core: int) -> None:
        self._binary = binary
        self._core = core

    @classmethod
    def compiled(cls, directory: Path, *, core: int) -> Self:
        """Compile it into ``directory``, unless that has been done.

        Raises:
            BenchFailed: there is no C compiler, or it refused.
        """
        digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
        binary = directory / f"loadgen-{digest}"
        if not binary.exists():
            compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
            if compiler is None:
                raise BenchFailed("the load generator is C: install a compiler (apt install gcc)")
            directory.mkdir(parents=True, exist_ok=True)
            made = binary.with_suffix(f".{os.getpid()}")
            command = [compiler, "-O2", "-Wall", "-o", made, SOURCE, "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchFailed(f"the load generator does not compile:\n{done.stderr}")
            made.rename(binary)
        return cls(binary, core=core)

    def send(self, requests: Path, *, port: int, load: Load) -> Sent:
        """Send what is in ``requests`` to a server on this machine; answers when all is answered.

        Raises:
            BenchFailed: it could not connect or read its file.
        """
        with tempfile.NamedTemporaryFile(dir=requests.parent, suffix=".ns") as latencies:
            numbers = (port, load.connections, load.seconds_max, load.rate, load.seed)
            done = subprocess.run(
                [self._binary, requests, *map(str, numbers), latencies.name],
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=pinned(self._core),
            )
            if done.returncode:
                raise BenchFailed(done.stderr.strip() or f"loadgen ended with {done.returncode}")
            counted = json.loads(done.stdout)
            counted.pop("failed")
            return Sent(latencies_ns=np.fromfile(latencies.name, np.int64), **counted)
