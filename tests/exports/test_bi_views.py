"""The views BI tools read, over a real ClickHouse (chDB), against the lines they are made of."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

from api.readers.closed import ClosedLinesReader
from storage.clickhouse.client import Address, ClickHouse
from storage.clickhouse.reports import VIEWS, ClickHouseReports
from storage.sql.closed_lines import SqlClosedLines
from tests.closed_world import close, line
from tests.exports.world import World


def test_views_say_what_the_books_say(small: World, chdb_path: Path) -> None:
    """Copied once, resumed by what is there, exact, and unmoved by a stretch sent twice."""
    clickhouse = ClickHouse(Address(path=chdb_path, database="bi_views"))
    reports = ClickHouseReports(clickhouse)
    closed = SqlClosedLines(small.database)
    reader = ClosedLinesReader(closed=closed, reports=reports)
    assert not reader.step()
    assert all(clickhouse.query(f"SELECT * FROM {view}").is_empty() for view in VIEWS)
    close(small.database, [line(1, amount=Decimal("12345678901234.56")), line(2, product=None)])
    close(small.database, [line(3, amount=Decimal(7), currency="JPY", customer="bolt")])
    assert reader.step()
    assert not reader.step()
    late = line(4, amount=Decimal("-0.56"), kind="adjustment", cause="late",
                adjusts=line(1)["line_id"])  # fmt: skip
    close(small.database, [late], on=date(2026, 2, 28))
    assert ClosedLinesReader(closed=closed, reports=ClickHouseReports(clickhouse)).step()
    assert reports.position() == 4
    reports.append(closed.closed_after(0, limit=2))  # an answer that was lost
    reports.append(closed.closed_after(1, limit=2))
    day = "SELECT day, currency, revenue, lines FROM revenue_by_day ORDER BY day, currency"
    assert clickhouse.query(day).rows() == [
        (date(2026, 1, 31), "JPY", Decimal(7), 1),
        (date(2026, 1, 31), "USD", Decimal("12345678901236.06"), 2),
        (date(2026, 2, 28), "USD", Decimal("-0.56"), 1),
    ]
    product = (
        "SELECT product, sum(revenue) FROM revenue_by_product WHERE currency = 'USD' "
        "GROUP BY product ORDER BY product NULLS FIRST"
    )
    assert clickhouse.query(product).rows() == [
        (None, Decimal("1.50")),
        ("tokens", Decimal("12345678901234.00")),
    ]
    customer = "SELECT customer, sum(lines) FROM revenue_by_customer GROUP BY customer ORDER BY 1"
    assert clickhouse.query(customer).rows() == [("acme", 3), ("bolt", 1)]
    told = clickhouse.query("SELECT amount, cause, adjusted_amount FROM adjustments").rows()
    assert told == [(Decimal("-0.56"), "late", Decimal("12345678901234.56"))]
    clickhouse.close()
