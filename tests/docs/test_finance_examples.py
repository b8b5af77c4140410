"""docs/exports.md and docs/tax.md run: every request and file on them, in order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.examples import Block, blocks
from tests.docs.test_api_examples import SHOWN_ONLY, is_shown, perform
from tests.e2e.harness import REPOSITORY, Service, cli, running_service

NOW = "2026-01-31T12:00:00Z"  # as the page says


@pytest.mark.parametrize("name", ["exports.md", "tax.md"])
def test_every_example_is_true(name: str, tmp_path: Path) -> None:
    """Each request is answered as the page shows, each file can be applied."""
    wrong, shown = [], list(blocks(REPOSITORY / "docs" / name))
    with running_service("--sandbox", "--now", NOW) as service:
        for block, following in pairwise([*shown, Block("", 200, "", 0)]):
            if block.language == "yaml":
                apply(service, tmp_path / "catalog.yaml", block.text)
            elif block.language not in SHOWN_ONLY:
                status, told = perform(service, block)
                if status != following.status:
                    wrong.append(f"{name}:{block.line}: {status}: {told[:500]}")
                else:
                    wrong += [f"{name}:{block.line}: {each}" for each in is_shown(following, told)]
    assert wrong == []


def apply(service: Service, path: Path, text: str) -> None:
    """Apply a catalog file as a reader would."""
    path.write_text(text)
    cli(service, "apply", str(path))
