"""`tallyman import FILE --map MAP`: a table's rows become events, sent in Arrow batches."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from api.cli.client import ApiClient
from api.cli.importing.mapping import InvalidMapping, load_mapping, to_events
from catalog.errors import DomainError

ARROW = "application/vnd.apache.arrow.stream"
REJECTIONS_SHOWN = 5


@dataclass(slots=True)
class Tally:
    """What became of the rows sent so far: sent = accepted + duplicates + rejected."""

    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, sent: int, reply: dict[str, Any]) -> None:
        """Count one reply of the gateway."""
        self.sent += sent
        self.accepted += reply["accepted"]
        self.duplicates += reply["duplicates"]
        self.rejected += len(reply["rejected"])
        for item in reply["rejected"]:
            self.codes[item["code"]] += 1
            if len(self.examples) < REJECTIONS_SHOWN:
                self.examples.append(f"{item.get('id')}: {item['code']}: {item['detail']}")


def _tables(path: Path, batch_rows: int) -> tuple[int | None, Iterator[pl.DataFrame]]:
    """The rows of a file in batches, and how many there are where the format says."""
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        batches = file.iter_batches(batch_size=batch_rows)
        return file.metadata.num_rows, (_frame(batch) for batch in batches)
    if path.suffix == ".csv":
        # Every cell as text: what is a number is the event's business, and stays exact.
        frame = pl.read_csv(path, infer_schema=False)
    elif path.suffix in {".ndjson", ".jsonl"}:
        frame = pl.read_ndjson(path)
    else:
        raise InvalidMapping(f"{path}: cannot read {path.suffix or 'this'}: .parquet .csv .ndjson")
    return frame.height, frame.iter_slices(batch_rows)


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _arrow(events: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    table = events.to_arrow()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def import_command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Parquet, CSV, NDJSON")],
    mapping_file: Annotated[Path, typer.Option("--map", exists=True, help="the column mapping")],
    batch_rows: Annotated[int, typer.Option(min=1, max=50_000)] = 20_000,
) -> None:
    """Import a file of usage. Importing it again changes nothing."""
    console = Console()
    try:
        tally, seconds = _send(file, mapping_file, batch_rows, console)
    except DomainError as error:
        console.print(f"[red]error:[/red] {error.detail}")
        raise typer.Exit(1) from error
    _report(console, file, tally, seconds)
    if tally.rejected:
        raise typer.Exit(1)


def _send(file: Path, mapping_file: Path, rows: int, console: Console) -> tuple[Tally, float]:
    mapping = load_mapping(mapping_file)
    total, tables = _tables(file, rows)
    tally, begun = Tally(), time.monotonic()
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with ApiClient.from_environment() as client, Progress(*columns, console=console) as progress:
        task = progress.add_task(f"importing {file.name}", total=total)
        for table in tables:
            events = to_events(table, mapping, first_row=tally.sent)
            reply = client.post_bytes("/v1/events", _arrow(events), content_type=ARROW)
            tally.add(table.height, reply)
            progress.advance(task, table.height)
    return tally, time.monotonic() - begun


def _report(console: Console, file: Path, tally: Tally, seconds: float) -> None:
    table = Table(
        title=f"{file.name}: {tally.sent:,} rows in {seconds:.1f} s", title_justify="left"
    )
    for name in ("accepted", "duplicates", "rejected"):
        table.add_column(name, justify="right")
    table.add_row(f"{tally.accepted:,}", f"{tally.duplicates:,}", f"{tally.rejected:,}")
    console.print(table)
    if tally.duplicates and not tally.accepted and not tally.rejected:
        console.print(
            "Nothing changed: every event (source, id) in this file was counted before, "
            "with the same content."
        )
    elif tally.duplicates:
        console.print(f"{tally.duplicates:,} were counted before and are not counted again.")
    for code, count in tally.codes.most_common():
        console.print(f"[red]{count:,} rejected: {code}[/red]")
    for example in tally.examples:
        console.print(f"  {example}")
