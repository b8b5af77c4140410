"""Planting one bug at a time in a copy of the tree, and seeing whether it is caught.

A patch begins with ``Bug:``, what is wrong with it, and ``Caught by:``, either ``simulation`` or
the test files that must fail. ``git apply`` passes over both lines.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).parent
SEEDS = 300
TIMEOUT_S = 240
COPIED = ("catalog", "ingest", "rating", "entitlements", "invoicing", "storage", "outbound", "api")
SIMULATION = "simulation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One patch. ``killers`` are test files, or :data:`SIMULATION`."""

    name: str
    what: str
    killers: tuple[str, ...]
    patch: Path

    @property
    def command(self) -> list[str]:
        """What must fail."""
        if SIMULATION in self.killers:
            limits = ["--seeds", str(SEEDS), "--until-failure"]
            return [sys.executable, "-m", "tests.simulation", *limits]
        quiet = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        return [sys.executable, "-m", "pytest", *quiet, *self.killers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a bug. ``how`` names the seed or the test; empty where it survived."""

    bug: Bug
    how: str
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether anything failed as it must."""
        return bool(self.how)


def bugs() -> list[Bug]:
    """Every patch, by name."""
    return [_read(path) for path in sorted(PATCHES.glob("*.patch"))]


def _read(path: Path) -> Bug:
    first, second = path.read_text().splitlines()[:2]
    return Bug(
        name=path.stem,
        what=first.removeprefix("Bug: "),
        killers=tuple(second.removeprefix("Caught by: ").split()),
        patch=path,
    )


def copy_tree(target: Path) -> None:
    """The service and its tests, with what was compiled (compiling again takes long)."""
    for name in (*COPIED, "tests", "clients"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("node_modules"))
    for name in ("pyproject.toml", "docs"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target / name)


def applies(bug: Bug, tree: Path) -> bool:
    """Whether the patch still fits the source."""
    return _git_apply(bug, tree, "--check").returncode == 0


def _git_apply(bug: Bug, tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # Outside of any repository git applies to the directory it is in.
    command = ["git", "apply", *options, str(bug.patch)]
    environment = {"GIT_CEILING_DIRECTORIES": str(tree.parent), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def try_bug(bug: Bug, tree: Path) -> Verdict:
    """Plant it, run what must catch it, take it out again."""
    began = time.monotonic()
    _git_apply(bug, tree).check_returncode()
    try:
        run = subprocess.run(
            bug.command, cwd=tree, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        how = _how(run.stdout) if run.returncode == 1 else ""
    except subprocess.TimeoutExpired:
        how = ""
    finally:
        _git_apply(bug, tree, "--reverse").check_returncode()
    return Verdict(bug=bug, how=how, seconds=time.monotonic() - began)


def _how(output: str) -> str:
    """The seed or the test that failed; empty where it was something else that went wrong."""
    seed = re.search(r"^FAILED (\d+): (.*?)(?: \(seed |$)", output, re.MULTILINE)
    if seed:
        return f"seed {seed[1]}: {seed[2][:110]}"
    test = re.search(r"^FAILED \S*?([^/\s]+::\S+)", output, re.MULTILINE)
    return test[1] if test else ""


def try_all(chosen: Sequence[Bug], directory: Path, *, jobs: int = 2) -> Iterator[Verdict]:
    """Each bug alone; ``jobs`` of them at a time, each in a copy of its own."""
    trees: Queue[Path] = Queue()
    for number in range(jobs):
        tree = directory / f"tree-{number}"
        copy_tree(tree)
        trees.put(tree)

    def tried(bug: Bug) -> Verdict:
        tree = trees.get()
        try:
            return try_bug(bug, tree)
        finally:
            trees.put(tree)

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(tried, chosen)


def table(verdicts: Iterable[Verdict]) -> str:
    """The kill table in Markdown."""
    lines = ["| bug | caught by |", "|---|---|"]
    for verdict in verdicts:
        how = verdict.how.replace("|", "\\|") or "**survived**"
        lines.append(f"| {verdict.bug.what} | {how} |")
    return "\n".join(lines) + "\n"
