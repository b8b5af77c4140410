"""Totals as files, in pieces: the same whole, bounded memory, opened by what finance uses."""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.routes.totals import line_items
from rating.chunks import arrow_chunks, csv_chunks, ndjson_chunks, parquet_chunks
from rating.frames import LINES, LINES_ORDER
from rating.rendering import PIECE_ROWS, as_text, checksum
from tests.closed_lines import open_lines

Chunks = Callable[[pl.DataFrame], Iterator[bytes]]
EVERY: list[Chunks] = [csv_chunks, ndjson_chunks, arrow_chunks, parquet_chunks]
LARGE = 200_000
PIECE_BYTES_MAX = 64 * 2**20
"""What a stream may hold beside the lines themselves, however many they are."""
RESIDENT = """
import sys
from pathlib import Path
import polars as pl
from rating import chunks
from rating.frames import LINES
from tests.closed_lines import open_lines

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

lines = pl.concat([open_lines(1_000).select(list(LINES))] * int(sys.argv[2]), rechunk=True)
stream = getattr(chunks, sys.argv[1])
for part in stream(lines.head(70_000)):
    pass
before = most = resident()
for part in stream(lines):
    most = max(most, resident())
print(most - before)
"""


def lines_of(count: int) -> pl.DataFrame:
    """So many LINES, awkward texts and nulls among them."""
    once = open_lines(1_000).select(list(LINES))
    return pl.concat([once] * -(-count // 1_000)).head(count).rechunk()


@pytest.fixture(scope="module")
def lines() -> pl.DataFrame:
    """LINES of several pieces of text."""
    return lines_of(2 * PIECE_ROWS + 7)


def test_pieces_of_csv_are_the_whole(lines: pl.DataFrame) -> None:
    """Byte for byte what is written at once; the checksum is that of these bytes."""
    at_once = io.BytesIO()
    as_text(lines).write_csv(at_once)
    joined = b"".join(csv_chunks(lines))
    assert joined == at_once.getvalue()
    assert checksum(lines) == hashlib.sha256(joined).hexdigest()


def test_a_line_of_ndjson_is_an_item_of_json(lines: pl.DataFrame) -> None:
    """The same members in the same order, decimals as strings."""
    told = [orjson.loads(line) for line in b"".join(ndjson_chunks(lines)).splitlines()]
    items = line_items(lines)
    assert told == items
    assert list(told[0]) == list(items[0])


@pytest.mark.parametrize("chunks", EVERY)
def test_no_lines_are_a_file_all_the_same(chunks: Chunks) -> None:
    """With its header and its types, where the format has any."""
    told = b"".join(chunks(LINES.to_frame()))
    if chunks is parquet_chunks:
        assert pl.read_parquet(io.BytesIO(told)).schema == LINES
    if chunks is arrow_chunks:
        assert pl.read_ipc_stream(io.BytesIO(told)).schema == LINES
    if chunks is csv_chunks:
        assert told.decode().strip().split(",") == list(LINES)


@pytest.mark.parametrize("chunks", EVERY)
def test_python_holds_one_piece(chunks: Chunks) -> None:
    """No string of everything: what Python holds at most does not grow with the lines."""
    lines = lines_of(LARGE)
    tracemalloc.start()
    written = sum(map(len, chunks(lines)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written > 10_000
    assert most < PIECE_BYTES_MAX / 4


@pytest.mark.slow
@pytest.mark.parametrize("chunks", EVERY)
def test_memory_does_not_grow_with_lines(chunks: Chunks) -> None:
    """Resident memory of a process that streams 200,000 lines, native memory included."""
    command = [sys.executable, "-c", RESIDENT, chunks.__name__, str(LARGE // 1_000)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < PIECE_BYTES_MAX, f"{grown / LARGE:.0f} bytes a line"


@pytest.fixture(scope="module")
def files(lines: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lines in every format."""
    directory = tmp_path_factory.mktemp("totals")
    for chunks in EVERY:
        name = chunks.__name__.removesuffix("_chunks")
        (directory / f"totals.{name}").write_bytes(b"".join(chunks(lines)))
    return directory


@pytest.fixture(scope="module")
def sums(lines: pl.DataFrame) -> tuple[Decimal, Decimal, int]:
    """Quantity, amount and events as the JSON says, added up."""
    items = line_items(lines)
    return (
        sum((Decimal(item["quantity"]) for item in items), Decimal(0)),
        sum((Decimal(item["amount"]) for item in items), Decimal(0)),
        sum(item["event_count"] for item in items),
    )


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_polars_opens_what_it_was(form: str, lines: pl.DataFrame, files: Path) -> None:
    """Every type and value."""
    read = {"arrow": pl.read_ipc_stream, "parquet": pl.read_parquet}[form]
    assert read(files / f"totals.{form}").equals(lines)


def test_polars_opens_csv_typed(files: Path, sums: tuple[Decimal, Decimal, int]) -> None:
    """Numbers are numbers without being told, and exact when asked for."""
    path = files / "totals.csv"
    assert pl.read_csv(path, infer_schema_length=None).schema["amount"] == pl.Float64
    assert pl.read_csv(path, infer_schema_length=None).schema["event_count"] == pl.Int64
    exact = {"quantity": pl.Decimal(38, 9), "amount": pl.Decimal(38, 6)}
    found = pl.read_csv(path, schema_overrides=exact, infer_schema_length=None)
    assert (found["quantity"].sum(), found["amount"].sum(), found["event_count"].sum()) == sums


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow", "ndjson"])
def test_pandas_opens_it(form: str, files: Path, sums: tuple[Decimal, Decimal, int]) -> None:
    """Instants with their zone, counts as integers, amounts exact or, from text, as numbers."""
    pandas = pytest.importorskip("pandas")
    path = files / f"totals.{form}"
    if form == "csv":
        found = pandas.read_csv(path, parse_dates=["period_start", "period_end"])
        assert found["amount"].dtype.kind == "f"
    elif form == "ndjson":
        found = pandas.read_json(path, lines=True, dtype={"amount": str, "quantity": str})
        assert found["dimensions"].map(lambda value: isinstance(value, dict)).all()
        assert [sum(map(Decimal, found[name])) for name in ("quantity", "amount")] == [*sums[:2]]
    else:
        parquet = form == "parquet"
        table = None if parquet else pa.ipc.open_stream(path.read_bytes()).read_all()
        found = pandas.read_parquet(io.BytesIO(path.read_bytes())) if parquet else table.to_pandas()
        assert sum(found["amount"]) == sums[1]
        assert sum(found["quantity"]) == sums[0]
    assert found["event_count"].dtype.kind == "i"
    assert found["event_count"].sum() == sums[2]
    if form != "ndjson":
        assert str(found["period_start"].dtype.tz) == "UTC"


@pytest.mark.parametrize("form", ["csv", "parquet", "ndjson"])
def test_duckdb_opens_it(form: str, files: Path, sums: tuple[Decimal, Decimal, int]) -> None:
    """Typed by itself: numbers and instants; from Parquet exactly."""
    reader = {"csv": "read_csv", "parquet": "read_parquet", "ndjson": "read_ndjson"}[form]
    source = f"{reader}('{files}/totals.{form}')"
    with duckdb.connect() as connection:
        columns = connection.sql(f"DESCRIBE SELECT * FROM {source}").fetchall()
        types = {name: kind for name, kind, *_ in columns}
        exact = "sum(quantity::DECIMAL(38, 9)), sum(amount::DECIMAL(38, 6)), sum(event_count)"
        (found,) = connection.sql(f"SELECT {exact} FROM {source}").fetchall()
    assert found == sums
    assert types["period_start"].startswith("TIMESTAMP")
    assert types["event_count"] == "BIGINT"
    if form == "parquet":
        assert types["amount"] == "DECIMAL(38,6)"
    if form == "csv":
        assert types["amount"] == "DOUBLE"


@pytest.mark.slow
def test_libreoffice_opens_csv(files: Path, lines: pl.DataFrame, tmp_path: Path) -> None:
    """It makes the same numbers of it, and no formula."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("no soffice binary on this machine")
    command = [office, "--headless", "--convert-to", "fods", "--outdir", str(tmp_path)]
    subprocess.run([*command, str(files / "totals.csv")], check=True, timeout=100)
    told = (tmp_path / "totals.fods").read_text()
    assert "table:formula" not in told
    assert told.count('office:value-type="float"') >= 3 * lines.height


def test_no_cell_of_text_starts_a_formula(files: Path) -> None:
    """Spreadsheets run what begins with these; only numbers may begin with a minus."""
    with (files / "totals.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name, cell in row.items():
                if cell[:1] in {"=", "+", "@", "\t", "\r", "-"}:
                    assert name in {"quantity", "amount"}
                    Decimal(cell)


def test_a_row_group_is_a_piece(lines: pl.DataFrame, files: Path) -> None:
    """Readers stream it, too, and its lines are in their one order's columns."""
    found = pq.ParquetFile(files / "totals.parquet")
    assert found.metadata.num_rows == lines.height
    assert set(LINES_ORDER) <= set(found.schema_arrow.names)
