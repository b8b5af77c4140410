"""schemathesis against the running service: what fits the document and what does not, and no 5xx.

All checks but those that schemathesis.toml takes out, and says why (checks named on the command
line would overrule it), from a fixed seed, for a bounded time; ``SCHEMATHESIS_S=600`` for longer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import Service

CONFIG = Path(__file__).with_name("schemathesis.toml")
SECONDS = int(os.environ.get("SCHEMATHESIS_S", "40"))
EXAMPLES = 5 if SECONDS < 100 else 50


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_the_service_is_what_its_document_says(fresh: Service, tmp_path: Path) -> None:
    """No status, header or content that the document does not have; bad input is refused."""
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            *("--config-file", CONFIG, "run", f"{fresh.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {fresh.key}"),
            *("--seed", "1", "--max-examples", str(EXAMPLES), "--max-time", str(SECONDS)),
            *("--no-color", "--generation-database", "none"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS * 2 + 60,
        check=False,
    )
    told = "\n".join(line[:400] for line in done.stdout.splitlines())  # a body may have megabytes
    assert done.returncode == 0, told[told.find("= FAILURES =") :] + done.stderr[-2_000:]
    assert "Tested: 91" in done.stdout or "Tested:" in done.stdout, done.stdout[-2_000:]
    fresh.wait_ready()
