"""The page of an invoice, printed: looked at as text and as pixels, page by page."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api.printing import printed
from api.wording import Wording

try:
    import pypdfium2
    import weasyprint
except (ImportError, OSError) as missing:  # WeasyPrint draws with Pango, a library of the system
    pytest.skip(f"nothing here prints HTML: {missing}", allow_module_level=True)

MONTH = {"period_start": "2026-01-01T00:00:00Z", "period_end": "2026-02-01T00:00:00Z"}


def line(number: int, **given: Any) -> dict[str, Any]:
    """One line as JSON."""
    usual = {
        "product": "tokens",
        "contract": "globex-2026",
        "kind": "usage",
        "dimensions": {"model": f"m{number}", "region": "eu"},
        "cause": None,
        "adjusts": None,
        "quantity": "1234567.123456789",
        "amount": "11234.50",
    }
    return usual | MONTH | given


def tax(base: str, amount: str, **given: Any) -> dict[str, Any]:
    """The tax of one line as JSON."""
    usual = {"jurisdiction": "DE", "code": "standard", "rate": "0.19", "inclusive": False}
    return usual | {"base": base, "amount": amount} | given


def invoice(lines: int, **given: Any) -> dict[str, Any]:
    """A document of so many lines as JSON."""
    usual = {
        "id": "inv~globex-2026~20260131~0123456789abcdef0123",
        "kind": "invoice",
        "number": "EU-INV-000042",
        "status": "issued",
        "customer": "globex",
        "customer_name": "Globex Søftware & <b>Sons</b> GmbH",
        "issued_at": "2026-02-01T08:00:00.000001Z",
        "contract": "globex-2026",
        "entity": "EU",
        "credits": None,
        "currency": "EUR",
        "subtotal": "12345.67",
        "tax": "2345.68",
        "total": "14691.35",
        "checksum": "ab" * 32,
        "taxes": [tax("10000.00", "1900.00"), tax("2345.67", "445.68")],
        "lines": [line(n) for n in range(lines)],
    }
    return usual | MONTH | given


def pages(document: dict[str, Any], wording: Wording | None = None) -> tuple[list[str], list[Any]]:
    """The text and the pixels (greys) of each printed page."""
    made = weasyprint.HTML(string=printed(document, wording or Wording())).write_pdf()
    pdf = pypdfium2.PdfDocument(made)
    texts, images = [], []
    for page in pdf:
        text = page.get_textpage()
        texts.append(text.get_text_bounded())
        images.append(page.render(scale=1, grayscale=True).to_numpy())
        text.close()
        page.close()
    pdf.close()
    return texts, images


@pytest.fixture(scope="module")
def long() -> tuple[list[str], list[Any]]:
    """An invoice of several pages."""
    return pages(invoice(60))


def test_what_it_comes_to_is_said_once(long: tuple[list[str], list[Any]]) -> None:
    """At the end: a total at the foot of every page would be read as that page's."""
    texts, _ = long
    assert len(texts) > 2
    assert [text.count("14\u202f691.35") for text in texts] == [0] * (len(texts) - 1) + [1]


def test_every_page_says_whose_it_is(long: tuple[list[str], list[Any]]) -> None:
    """The number of the document, the number of the page, the headings of the columns."""
    texts, _ = long
    for number, text in enumerate(texts, start=1):
        assert f"{number} / {len(texts)}" in text
        assert "EU-INV-000042" in text
        assert "QUANTITY" in text.upper()


def test_names_are_text(long: tuple[list[str], list[Any]]) -> None:
    """As they were written, whatever they look like."""
    assert "Globex Søftware & <b>Sons</b> GmbH" in long[0][0]


def test_nothing_is_cut_off_at_the_edges(long: tuple[list[str], list[Any]]) -> None:
    """Every page has ink, and none of it in the margins."""
    for image in long[1]:
        pixels = image.reshape(image.shape[0], image.shape[1])
        assert (pixels < 128).any()
        assert (pixels[:, :40] > 200).all()
        assert (pixels[:, -40:] > 200).all()
        assert (pixels[:30] > 200).all()


@pytest.mark.parametrize("status", ["draft", "void", "issued"])
def test_what_is_not_owed_is_stamped(status: str) -> None:
    """A draft and a void one can be told from one that was issued and stands."""
    texts, _ = pages(invoice(3, status=status))
    found = [stamp for stamp in ("DRAFT", "VOID") if stamp in texts[0].upper()]
    assert found == [each.upper() for each in (status,) if each != "issued"]


def test_it_names_what_was_sold_on_the_days_it_was_used() -> None:
    """Products by name, days of the contract's calendar: January in Tokyo begins in December."""
    month = {"period_start": "2025-12-31T15:00:00Z", "period_end": "2026-01-31T15:00:00Z"}
    own = line(1, period_start="2026-01-14T15:00:00Z", period_end="2026-01-31T15:00:00Z")
    document = invoice(0, **month, issued_at="2026-01-31T23:00:00.000001Z") | {"lines": [own]}
    wording = Wording(products={"tokens": "Tokens, <all>"}, zone=ZoneInfo("Asia/Tokyo"))
    (text, *_), _ = pages(document, wording)
    assert "Tokens, <all>" in text
    assert "2026-01-01 to 2026-01-31" in text
    assert "2026-01-15 to 2026-01-31" in text
    assert "2026-02-01" in text  # when it was issued


def test_every_rate_is_told_with_what_it_is_of() -> None:
    """With and without a code, exempt and not, inside the prices and not: each with its sums."""
    rows = [
        tax("100.00", "19.00", code=None),
        tax("50.00", "3.50", code="books", rate="0.07"),
        tax("0.10", "0.02", code=None),
        tax("10.00", "0.00", code="food", rate="0"),
        tax("1000.00", "200.00", code=None, rate="0.2", jurisdiction="FR", inclusive=True),
    ]
    wording = Wording(
        taxes={"DE": "Umsatzsteuer"}, exempt="reverse charge", registration="ATU12345678"
    )
    (text, *_), _ = pages(invoice(1, taxes=rows), wording)
    for told in (
        "Umsatzsteuer 19 % on 100.10",
        "19.02",
        "Umsatzsteuer books 7 % on 50.00",
        "Umsatzsteuer food 0 % on 10.00 (reverse charge)",
        "FR 20 % on 1\u202f000.00, in the prices above",
        "ATU12345678",
    ):
        assert told in text


def test_a_credit_note_says_what_it_takes_back_and_why() -> None:
    """Its number, the invoice's, and the reason that was given."""
    own = {"kind": "credit_note", "credits": "inv~k", "credited_number": "INV-000041"}
    (text, *_), _ = pages(invoice(1, **own, reason="billed twice", total="-5.00"))
    assert "Credit note" in text
    assert "INV-000041" in text
    assert "billed twice" in text
    assert "−5.00" in text


def test_a_draft_without_a_rate_does_not_look_untaxed() -> None:
    """It says what is missing, and that its total is without tax."""
    reason = "tax table DE has no rate of tax code books on 2026-01-31"
    draft = invoice(1, status="draft", number=None, taxes=[], tax="0.00", waiting=reason)
    (text, *_), _ = pages(draft)
    assert f"Tax is not known yet: {reason}" in " ".join(text.split())
    assert "Total EUR, without tax" in text


def test_a_family_is_told_apart_and_one_contract_is_named() -> None:
    """Each line names its contract where there are several; else the page does, once."""
    two = [line(1, contract="k-one"), line(2, contract="k-two")]
    (text, *_), _ = pages(invoice(0, contract=None) | {"lines": two})
    assert ("several" in text, text.count("k-one"), text.count("k-two")) == (True, 1, 1)
    (text, *_), _ = pages(invoice(0, contract=None) | {"lines": two[:1]})
    assert ("several" in text, text.count("k-one")) == (False, 1)
