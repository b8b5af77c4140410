"""A real trace, priced twice: by the service, and by DuckDB with exact fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import duckdb
import pytest

from tests.e2e.harness import Service, cli

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "switch-ports"
TRACE = ROOT.parent / "shared" / "data" / "zhejianglab_switch_port_octets_6sw.parquet"

INGRESS = [(10**13, "0.00000000008"), (10**14, "0.00000000006"), (None, "0.000000000041")]
NAMES = {
    "Leaf-1": "leaf-1",
    "Leaf-2": "leaf-2",
    "Leaf-5": "leaf-5",
    "Leaf-9": "leaf-9",
    "Leaf-17": "leaf-17",
    "ST-leaf-1": "st-leaf-1",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(500),
    pytest.mark.skipif(not TRACE.exists(), reason="the trace is not beside this clone"),
]


def cents(amount: Fraction) -> Decimal:
    """Half away from zero, to two decimals; every amount here is positive."""
    return Decimal((amount * 200 + 1).numerator // ((amount * 200 + 1).denominator * 2)).scaleb(-2)


def graduated(quantity: int, tiers: list[tuple[int | None, str]]) -> Fraction:
    """Each tier prices what lies in it, as a person would add it up."""
    total, below = Fraction(0), 0
    for up_to, price in tiers:
        top = quantity if up_to is None else min(quantity, up_to)
        total += max(0, top - below) * Fraction(price)
        below = up_to or quantity
    return total


def egress(customer: str, quantity: int) -> Fraction:
    """Leaf 9 has its own price; the others two tiers and a fee for the first."""
    if customer == "leaf-9":
        return quantity * Fraction("0.000000000055")
    return 250 + graduated(quantity, [(10**14, "0.000000000091"), (None, "0.000000000071")])


def expected() -> dict[tuple[str, str], tuple[int, int, Decimal]]:
    """(customer, product) → (events, octets, amount), from the file itself."""
    rows = duckdb.execute(
        "SELECT regexp_extract(DeviceName, 'ROCE-(.*?)\\.GPU', 1), count(*),"
        " sum(InOctets::HUGEINT), sum(OutOctets::HUGEINT) FROM read_parquet(?) GROUP BY 1",
        [str(TRACE)],
    ).fetchall()
    bill: dict[tuple[str, str], tuple[int, int, Decimal]] = {}
    for device, count, octets_in, octets_out in rows:
        name = NAMES[device]
        bill[name, "ingress"] = (count, octets_in, cents(graduated(octets_in, INGRESS)))
        bill[name, "egress"] = (count, octets_out, cents(egress(name, octets_out)))
        bill[name, "platform"] = (0, 1, Decimal("1500.00"))
    return bill


def test_the_bill_agrees_with_duckdb_and_fractions(service: Service) -> None:
    """Counts, quantities and amounts are equal to the digit; a second import changes nothing."""
    cli(service, "apply", str(EXAMPLE / "catalog.yaml"))
    imported = cli(service, "import", str(TRACE), "--map", str(EXAMPLE / "mapping.yaml"))
    assert "2,854,382" in imported
    before = service.get_when_ready("/v1/totals", period="2024-05", limit=1000)
    found = {
        (line["customer"], line["product"]): (
            line["event_count"],
            int(line["quantity"]),
            Decimal(line["amount"]),
        )
        for line in before["items"]
    }
    assert found == expected()
    again = cli(service, "import", str(TRACE), "--map", str(EXAMPLE / "mapping.yaml"))
    assert "Nothing changed" in again
    after = service.get_when_ready("/v1/totals", period="2024-05", limit=1000)
    assert after["checksum"] == before["checksum"]
