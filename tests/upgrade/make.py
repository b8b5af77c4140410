"""Makes a fixture: the data directory an earlier commit leaves behind, and what it answered.

``python -m tests.upgrade.make COMMIT NAME`` runs the service *of that commit* and writes
``tests/upgrade/NAME.tar.xz`` and ``NAME.json``. Made once for each version that is to be kept.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.e2e import harness
from tests.upgrade.business import SERVE, SETTINGS, answers, fill

HERE = Path(__file__).parent
LEFT_OUT = {"run", "service.lock", "compiled"}


def make(commit: str, name: str) -> None:
    """Check the commit out, fill a directory with it, and pack what it left."""
    scratch = Path(tempfile.mkdtemp(prefix="tmu-", dir="/tmp"))
    checkout, data = scratch / "code", scratch / "d"
    git = ["git", "-C", str(HERE)]
    subprocess.run([*git, "worktree", "add", "--detach", str(checkout), commit], check=True)
    try:
        harness.REPOSITORY = checkout
        service = harness.start_service(data, *SERVE, settings=SETTINGS)
        try:
            service.wait_ready(within_s=600)
            fill(service)
            told = answers(service)
            service.stop()  # in order or not: what it leaves must be opened
        finally:
            harness.end_service(service)
        _pack(data, HERE / f"{name}.tar.xz")
        full = subprocess.run(
            [*git, "rev-parse", commit], capture_output=True, text=True, check=True
        ).stdout.strip()
        kept = {"commit": full, **told}
        (HERE / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(checkout)], check=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _pack(data: Path, to: Path) -> None:
    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if info.name.partition("/")[0] in LEFT_OUT:
            return None
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(to, "w:xz") as archive:
        for entry in sorted(data.iterdir()):
            archive.add(entry, arcname=entry.name, filter=wanted)


if __name__ == "__main__":
    make(*sys.argv[1:])
