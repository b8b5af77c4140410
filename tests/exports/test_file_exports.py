"""Files to a folder: whole or not there, the same bytes again, resumed by position."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from api.exporting.exports import ExportUndelivered
from catalog.errors import NotFound
from catalog.grammar import InvalidDocument
from outbound.cells import armed
from storage.sql.exports import RunStatus, StreamFixed, StretchTaken
from tests.closed_world import close, issue, line
from tests.exports.world import World

LINES = {"kind": "files", "folder": "out", "format": "csv"}
HOSTILE = '=cmd|" /C calc"!A1'


def test_lines_are_handed_over_once_in_order(made: World) -> None:
    """Two runs take what was closed before each; a third has nothing to do."""
    made.exports.put("x", LINES | {"batch": 2}, actor=None)
    close(made.database, [line(1), line(2), line(3)])
    first = made.run()
    assert [(r["after"], r["upto"], r["rows"], r["status"]) for r in first] == [
        (0, 2, 2, "delivered"),
        (2, 3, 1, "delivered"),
    ]
    close(made.database, [line(4, amount=Decimal("-0.50"), kind="adjustment", cause="late")])
    assert [run["upto"] for run in made.run()] == [4]
    assert made.run() == []
    found = b"".join(made.files().values()).decode().splitlines()
    rows = [row for row in found if not row.startswith("sequence")]
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3", "4"]
    assert list(made.files()) == ["x-00000001.csv", "x-00000002.csv", "x-00000003.csv"]
    assert made.exports.get("x")["position"] == 4


def test_a_replay_is_the_same_bytes_under_the_same_name(made: World) -> None:
    """Also after the declaration changed, the file was lost, and an invoice was issued."""
    made.exports.put("x", LINES, actor=None)
    close(made.database, [line(1), line(2)])
    (run,) = made.run()
    before = made.files()
    (made.root / "out" / "x-00000001.csv").unlink()
    made.exports.put("x", LINES | {"columns": ["line_id"]}, actor=None)
    issue(made.database, "inv_1", lines=2)
    made.clock.set(made.clock.now_us() + 10**12)
    again = made.exports.replay("x", 1)
    assert made.files() == before
    assert (again["checksum"], again["deliveries"]) == (run["checksum"], 2)
    assert again["id"] == run["id"] == "x-00000001"


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_every_format_reads_back_typed(small: World, form: str) -> None:
    """pandas, Polars and DuckDB agree on the sum, the currency's digits and a negative credit."""
    small.exports.put("x", LINES | {"format": form}, actor=None)
    rows = [
        line(1, amount=Decimal("1234567890123.45"), quantity=Decimal("0.000000001")),
        line(2, amount=Decimal("-5.00"), kind="credit"),
        line(3, amount=Decimal(7), currency="JPY"),
        line(4, amount=Decimal("1.005"), currency="KWD", product=None),
    ]
    close(small.database, rows)
    small.run()
    ((name, content),) = small.files().items()
    expected = [Decimal("1234567890123.45"), Decimal("-5.00"), Decimal(7), Decimal("1.005")]
    path = str(small.root / "out" / name)
    match form:
        case "csv":
            text = pd.read_csv(io.BytesIO(content), dtype={"amount": str})["amount"].to_list()
            assert text == ["1234567890123.45", "-5.00", "7", "1.005"]
            assert pd.read_csv(io.BytesIO(content))["amount"].dtype.kind == "f"
            typed = pl.read_csv(content, schema_overrides={"amount": pl.Decimal(38, 6)})
            assert typed["amount"].to_list() == expected
            found = duckdb.sql(
                f"SELECT amount FROM read_csv('{path}', types={{'amount': 'DECIMAL(38,6)'}})"
            )
        case "ndjson":
            assert pl.read_ndjson(content)["amount"].to_list() == [
                "1234567890123.45",
                "-5.00",
                "7",
                "1.005",
            ]
            assert pl.read_ndjson(content)["sequence"].dtype.is_integer()
            found = duckdb.sql(f"SELECT amount::DECIMAL(38,6) FROM read_ndjson('{path}')")
        case _:
            assert pl.read_parquet(content)["amount"].to_list() == expected
            assert pd.read_parquet(io.BytesIO(content))["amount"].to_list() == expected
            found = duckdb.sql(f"SELECT amount FROM read_parquet('{path}')")
    assert [row[0] for row in found.fetchall()] == expected


def test_columns_are_renamed_added_and_ordered(made: World) -> None:
    """A ledger gets the columns it knows; text that would be a formula is text."""
    columns = [
        {"name": "Betrag", "from": "amount"},
        {"name": "System", "value": HOSTILE},
        "customer",
        {"name": "Menge", "from": "quantity"},
    ]
    made.exports.put("x", LINES | {"columns": columns}, actor=None)
    close(made.database, [line(1, amount=Decimal("-5.00"))])
    made.run()
    content = made.files()["x-00000001.csv"]
    read = pl.read_csv(content, infer_schema=False)
    assert read.row(0) == ("-5.00", "'" + HOSTILE, "acme", "1")
    assert read.select(armed(pl.col("System"))).item() == HOSTILE
    assert pl.read_csv(content)["Betrag"].dtype.is_numeric()


def test_filters_take_each_line_once(made: World) -> None:
    """Two destinations that split by product have every line between them, in one of the two."""
    made.exports.put(
        "a", LINES | {"folder": "a", "filter": {"products": {"in": ["tokens"]}}}, actor=None
    )
    made.exports.put(
        "b", LINES | {"folder": "b", "filter": {"products": {"not_in": ["tokens"]}}}, actor=None
    )
    made.exports.put(
        "none", LINES | {"folder": "n", "filter": {"currencies": {"in": ["EUR"]}}}, actor=None
    )
    close(
        made.database, [line(1), line(2, product="seats"), line(3, product=None, kind="discount")]
    )
    taken = []
    for export in ("a", "b"):
        made.run(export)
        (content,) = made.files(export).values()
        taken += pl.read_csv(content)["sequence"].to_list()
    assert sorted(taken) == [1, 2, 3]
    (run,) = made.run("none")
    assert (run["status"], run["rows"]) == ("empty", 0)
    assert made.files("n") == {}
    assert made.exports.get("none")["position"] == 3


def test_issued_documents_with_tax_and_their_credit_notes(made: World) -> None:
    """A credit note is the invoice with every sign turned; both together are nothing."""
    made.exports.put("x", LINES | {"document": "invoice_lines"}, actor=None)
    made.exports.put("sums", LINES | {"document": "invoices", "folder": "sums"}, actor=None)
    close(made.database, [line(1, amount=Decimal("100.00")), line(2, amount=Decimal("-10.00"))])
    taxes = [
        {"line_id": line(1)["line_id"], "inclusive": False, "amount": "19.00"},
        {"line_id": line(2)["line_id"], "inclusive": True, "amount": "-1.60"},
    ]
    issue(made.database, "inv_1", lines=2, taxes=taxes)
    turned = [tax | {"amount": f"{-Decimal(tax['amount'])}"} for tax in taxes]
    issue(made.database, "inv_1", lines=2, taxes=turned, kind="credit_note")
    made.run()
    made.run("sums")
    read = pl.read_csv(made.files()["x-00000001.csv"])
    assert read.select("net", "tax", "gross").rows() == [
        (100.0, 19.0, 119.0),
        (-8.4, -1.6, -10.0),
        (-100.0, -19.0, -119.0),
        (8.4, 1.6, 10.0),
    ]
    sums = pl.read_csv(made.files("sums")["sums-00000001.csv"], infer_schema=False)
    assert sums.select("document_kind", "lines", "net", "tax", "gross").rows() == [
        ("invoice", "2", "91.60", "17.40", "109.00"),
        ("credit_note", "2", "-91.60", "-17.40", "-109.00"),
    ]


def test_a_line_closed_onto_a_document_after_its_issue_is_not_in_it(made: World) -> None:
    """What a document was issued with is what is handed over, also much later."""
    made.exports.put("x", LINES | {"document": "invoice_lines"}, actor=None)
    close(made.database, [line(1)])
    issue(made.database, "inv_1", lines=1)
    made.run()
    before = made.files()
    with made.database.write() as connection:
        from sqlalchemy import insert

        from storage.sql.schema import CLOSED_LINES

        text = ",".join(["k1~20260101~" + "f" * 20, "acme", "k1", "tokens", "", "{}", "arrears",
                         "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "USD", "1", "1.00",
                         "adjustment", "closed", "", "late", "0", "v1"])  # fmt: skip
        connection.execute(insert(CLOSED_LINES).values(
            sequence=2, line_id="k1~20260101~" + "f" * 20, customer="acme", contract="k1",
            document="inv_1", entity="", billing_start=0, accounting_date="2026-01-31",
            closed_by="2026-02", recorded_at=10**16, as_of=10**16, engine="1",
            row=text + "\n", checksum=""))  # fmt: skip
    made.exports.replay("x", 1)
    assert made.files() == before


def test_a_folder_that_cannot_be_written_leaves_nothing(made: World) -> None:
    """The run is recorded with the reason, waits longer each time, dies, and can be replayed."""
    made.exports.put("x", LINES, actor=None)
    close(made.database, [line(1)])
    made.root.mkdir(parents=True)
    (made.root / "out").write_text("a file in the way")
    with pytest.raises(ExportUndelivered, match=r"out/x-00000001\.csv") as raised:
        made.run()
    (run,) = raised.value.members["runs"]
    assert (run["status"], run["attempts"]) == ("pending", 1)
    assert made.exports.turn("x", upto=1).runs == ()  # not yet due
    waits = []
    while (held := made.store.run("x", 1)).status is RunStatus.PENDING:
        assert held.next_attempt_at is not None
        waits.append(held.next_attempt_at - made.clock.now_us())
        made.clock.set(held.next_attempt_at)
        made.exports.turn("x", upto=1)
    assert (held.status, held.attempts, len(waits)) == (RunStatus.DEAD, 3, 2)
    assert 10**6 <= waits[0] <= 2 * 10**6 <= waits[1] <= 3 * 10**6
    assert [path.name for path in made.root.iterdir()] == ["out"]
    (made.root / "out").unlink()
    assert made.exports.replay("x", 1)["status"] == "delivered"
    assert len(made.files()) == 1


def test_a_disk_that_fills_up_half_way_leaves_nothing(tmp_path: Path) -> None:
    """The write breaks in the middle of the file: no file, no partial one, a clear error."""
    code = f"""
import resource, signal
from pathlib import Path
from outbound.folders import Folders
from outbound.webhooks import DeliveryFailed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
folders = Folders(Path({str(tmp_path)!r}))
folders.write("out", "old.csv", b"old")
try:
    folders.write("out", "old.csv", b"x" * 3_000_000)
except DeliveryFailed as error:
    print(error.detail)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "File too large" in done.stdout, done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "old.csv": b"old"
    }


@pytest.mark.parametrize(
    "folder",
    ["../up", "/etc", "a/../b", "a//b", ".hidden", "a/.", "", "a\\b", "a b", "~", "a/..", "%2e%2e"],
)
def test_no_folder_leads_out(small: World, folder: str) -> None:
    """A folder is a plain relative path, whoever declares it."""
    with pytest.raises(InvalidDocument):
        small.exports.put("x", LINES | {"folder": folder}, actor=None)


def test_a_link_does_not_lead_out(small: World, tmp_path: Path) -> None:
    """Who owns a folder cannot make the service write elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    small.root.mkdir()
    (small.root / "out").symlink_to(outside)
    small.exports.put("x", LINES, actor=None)
    close(small.database, [line(1)])
    with pytest.raises(ExportUndelivered, match="leads out"):
        small.run()
    assert list(outside.iterdir()) == []


def test_a_run_that_was_cut_off_is_taken_up(made: World) -> None:
    """Planned and never tried, or sent and never recorded: the next turn delivers it."""
    made.exports.put("x", LINES, actor=None)
    close(made.database, [line(1), line(2)])
    made.store.plan("x", after=0, upto=1, revision=1)
    with pytest.raises(StretchTaken):  # another worker had the same idea
        made.store.plan("x", after=0, upto=2, revision=1)
    assert [(run["number"], run["status"]) for run in made.run()] == [
        (1, "delivered"),
        (2, "delivered"),
    ]
    assert len(made.files()) == 2


def test_eight_at_once_deliver_every_line_once(made: World) -> None:
    """Whoever runs it beside whom: stretches follow each other without gap or overlap."""
    made.exports.put("x", LINES | {"batch": 3}, actor=None)
    close(made.database, [line(number) for number in range(1, 20)])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: made.run(), range(8)))
    runs = sorted(made.exports.runs("x", before=None, limit=100), key=lambda run: run["number"])
    assert [run["after"] for run in runs] == [0, *(run["upto"] for run in runs[:-1])]
    taken = [row for content in made.files().values() for row in pl.read_csv(content)["sequence"]]
    assert sorted(taken) == list(range(1, 20))


def test_a_destination_comes_goes_and_comes_back(made: World) -> None:
    """Ended it does nothing; declared again it goes on where it stopped; the stream stays."""
    made.exports.put("x", LINES, actor="key")
    close(made.database, [line(1)])
    made.run()
    made.exports.retire("x", actor="key")
    for gone in (lambda: made.exports.get("x"), made.run, lambda: made.exports.replay("x", 1)):
        with pytest.raises(NotFound):
            gone()
    assert made.exports.all() == []
    assert len(made.exports.runs("x", before=None, limit=10)) == 1
    close(made.database, [line(2)])
    view, created = made.exports.put("x", LINES, actor=None)
    assert (created, view["position"], view["waiting"]) == (True, 1, 1)
    assert [run["after"] for run in made.run()] == [1]
    with pytest.raises(StreamFixed):
        made.exports.put("x", LINES | {"document": "invoices"}, actor=None)


def test_a_new_destination_may_begin_now(made: World) -> None:
    """What was closed before it was declared is not its business, if it says so."""
    close(made.database, [line(1)])
    made.exports.put("x", LINES | {"start": "now"}, actor=None)
    close(made.database, [line(2)])
    assert [(run["after"], run["upto"]) for run in made.run()] == [(1, 2)]


def test_a_close_decides_what_goes_by_itself(made: World) -> None:
    """Lines closed by an early invoice wait for their month; minutes and hand do not."""
    for export, schedule in (
        ("x", {"every": "close"}),
        ("m", {"every_minutes": 5}),
        ("h", {"every": "manual"}),
    ):
        made.exports.put(export, LINES | {"folder": export, "schedule": schedule}, actor=None)
    close(made.database, [line(1)])
    assert [made.exports.scheduled(name)[1] for name in ("x", "m", "h")] == [0, 1, 0]
    close(made.database, [line(2)], month="2026-01")
    close(made.database, [line(3)])
    assert [made.exports.scheduled(name)[1] for name in ("x", "m", "h")] == [2, 3, 0]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"kind": "ftp"}, "/kind"),
        ({"format": "xlsx"}, "/format"),
        ({"format": "json"}, "/format"),
        ({"document": "ledger"}, "/document"),
        ({"folder": None}, ""),
        ({"url": "https://x.example/"}, "/url"),
        ({"fliter": {}}, "/fliter"),
        ({"filter": {"products": {"in": []}}}, "/filter/products/in"),
        ({"filter": {"products": {"in": ["a"], "not_in": ["b"]}}}, "/filter/products"),
        ({"columns": ["amount", "amount"]}, "/columns"),
        ({"columns": ["invoice_number"]}, "/columns"),
        ({"columns": [{"name": "x"}]}, "/columns/0"),
        ({"schedule": {"every": "close", "every_minutes": 1}}, "/schedule"),
        ({"schedule": {"every_minutes": 0}}, "/schedule/every_minutes"),
        ({"batch": 0}, "/batch"),
        ({"options": {"accounts": {}}}, "/options/accounts"),
        ({"document": "journal"}, "/options"),
    ],
)
def test_a_bad_declaration_names_its_place(small: World, change: dict, pointer: str) -> None:
    """Unknown keys and values are refused and nothing is kept."""
    with pytest.raises(InvalidDocument) as raised:
        small.exports.put("x", LINES | change, actor=None)
    assert pointer in [error.pointer for error in raised.value.errors]
    assert small.exports.all() == []


def test_days_and_instants_are_iso(small: World) -> None:
    """What a spreadsheet and a ledger both read as dates."""
    small.exports.put("x", LINES | {"columns": ["accounting_date", "period_start"]}, actor=None)
    close(small.database, [line(1, period_start=datetime(2026, 1, 1, tzinfo=UTC))])
    small.run()
    assert small.files()["x-00000001.csv"].splitlines()[1] == b"2026-01-31,2026-01-01T00:00:00Z"
