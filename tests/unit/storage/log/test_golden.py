"""Logs written by earlier releases, byte for byte as they left them, are still read."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from catalog.events import RECORDS
from storage.log.verify import verify_segments
from tests.log_samples import NODE, events, everything, follow, open_log, put

GOLDEN = Path(__file__).parents[3] / "golden"


def records_in(path: Path) -> pl.DataFrame:
    """The RECORDS of a file of JSON lines."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        for name in ("received_at", "time"):
            row[name] = row[name] and datetime.fromisoformat(row[name])
    return pl.DataFrame(rows, schema=RECORDS)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("log_format_*")))
def test_an_earlier_log_is_read_and_continued(name: str, tmp_path: Path) -> None:
    """A sealed segment and a hot file; new records go behind the old ones."""
    for path in (GOLDEN / name).iterdir():
        # Git ignores *.log, so hot files are kept under another suffix.
        shutil.copy(path, tmp_path / path.name.replace(".bin", ".log"))
    expected = records_in(GOLDEN / name / "records.ndjson")
    log = open_log(tmp_path)
    assert everything(log).equals(expected)
    assert verify_segments(tmp_path, node=NODE) is None
    put(log, events(2, start=90))
    log.roll()
    assert follow(tmp_path).seal_closed()  # two, where the old hot file spells columns otherwise
    assert everything(follow(tmp_path)).head(expected.height).equals(expected)
