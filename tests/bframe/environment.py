"""An environment of its own for bframe: made once in a cache directory, never in ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REQUIREMENT = "bframelib==0.1.21"
PEER = Path(__file__).with_name("peer.py")


class NotInstallable(Exception):
    """bframe cannot be installed here, and why."""


def environment(cache: Path) -> Path:
    """The Python of an environment with bframe in it, made if it is not there.

    Raises:
        NotInstallable: pip does not get it (no network, no such release).
    """
    home = cache / REQUIREMENT.replace("==", "-")
    python, marker = home / "bin" / "python", home / ".installed"
    if not marker.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        _run([str(python), "-m", "pip", "install", "--quiet", REQUIREMENT])
        marker.touch()
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstallable(str(error)) from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise NotInstallable(f"{' '.join(command[1:4])}: {last[0] if last else done.returncode}")


def ask(python: Path, question: dict[str, Any]) -> dict[str, Any]:
    """Get bframe's answer to one question (see :mod:`tests.bframe.peer`)."""
    done = subprocess.run(
        [str(python), str(PEER)],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
