"""Draft invoices: what finance adds up must add up."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from invoicing.drafts import Invoice, Row, draft_invoices


def line(
    *,
    amount: str,
    contract: str = "k",
    timing: str = "arrears",
    start: str = "2023-11-01T00:00:00Z",
) -> Row:
    """A line as text, with what an invoice reads."""
    return {
        "customer": "acme",
        "contract": contract,
        "timing": timing,
        "period_start": start,
        "period_end": "2023-12-01T00:00:00Z",
        "currency": "USD",
        "amount": amount,
    }


def drafts_of(rows: list[Row]) -> list[Invoice]:
    """Drafts of lines that each span their whole billing period."""
    billed = [(str(row["period_start"]), str(row["period_end"])) for row in rows]
    return list(draft_invoices(zip(rows, billed, strict=True)))


def test_arrears_and_advance_are_two_documents() -> None:
    """One invoice per (contract, timing, period): the field's own worked example."""
    rows = [
        line(amount="430.85"),
        line(amount="5000.00", timing="advance"),
        line(amount="102116.80"),
    ]
    drafts = {draft.timing: draft for draft in drafts_of(rows)}
    assert {timing: str(draft.total) for timing, draft in drafts.items()} == {
        "arrears": "102547.65",
        "advance": "5000.00",
    }
    assert len(drafts["arrears"].lines) == 2


@given(
    st.lists(
        st.tuples(st.integers(-(10**12), 10**12), st.sampled_from("abc"), st.booleans()),
        max_size=30,
    )
)
def test_no_cent_is_lost_between_lines_and_invoices(
    drawn: list[tuple[int, str, bool]],
) -> None:
    """The drafts' totals sum to the lines' amounts, and each line is on exactly one draft."""
    rows = [
        line(
            amount=f"{Decimal(cents).scaleb(-2):f}",
            contract=contract,
            timing="advance" if advance else "arrears",
        )
        for cents, contract, advance in drawn
    ]
    drafts = drafts_of(rows)
    assert sum(draft.total for draft in drafts) == Decimal(sum(c for c, _, _ in drawn)).scaleb(-2)
    assert sum(len(draft.lines) for draft in drafts) == len(rows)
    assert len({draft.id for draft in drafts}) == len(drafts)


def test_a_split_period_is_one_document() -> None:
    """A change of terms cuts a period's line in two, and the invoice stays one."""
    halves = [line(amount="10.00"), line(amount="2.50", start="2023-11-16T00:00:00Z")]
    whole = ("2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z")
    (draft,) = draft_invoices([(half, whole) for half in halves])
    assert str(draft.total) == "12.50"
    assert draft.period_start == "2023-11-01T00:00:00Z"
