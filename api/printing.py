"""An invoice as a page for a printer: HTML that needs nothing else and says nothing twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
@page { size: A4; margin: 16mm 16mm 20mm;
  @bottom-left { content: string(number); font: 8pt sans-serif; color: #545b64 }
  @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif;
    color: #545b64 } }
* { box-sizing: border-box }
body { font: 10pt/1.45 "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif;
  color: #1a1d21; margin: 0 auto; max-width: 178mm; padding: 12mm 0 }
@media print { body { padding: 0; max-width: none } }
header { display: flex; justify-content: space-between; align-items: flex-start;
  border-bottom: 2px solid #1a1d21; padding-bottom: 5mm; margin-bottom: 7mm }
h1 { font-size: 20pt; line-height: 1.1; margin: 0; font-weight: 600; letter-spacing: -0.01em }
.number { font-size: 11pt; color: #545b64; margin-top: 1mm; string-set: number content() }
.stamp { border: 2px solid currentColor; border-radius: 3px; padding: 1mm 3mm; font-weight: 600;
  text-transform: uppercase; letter-spacing: .08em; font-size: 9pt }
.stamp.draft { color: #8a6100 } .stamp.void { color: #a32020 } .stamp.issued { display: none }
.facts { display: grid; grid-template-columns: 1fr 1fr; gap: 2mm 10mm; margin-bottom: 8mm }
.facts div { display: flex; flex-direction: column }
.facts span { color: #545b64; font-size: 8pt; text-transform: uppercase; letter-spacing: .05em }
table { width: 100%; border-collapse: collapse }
thead { display: table-header-group }
th { text-align: left; font-size: 8pt; text-transform: uppercase; letter-spacing: .05em;
  color: #545b64; font-weight: 600; border-bottom: 1px solid #1a1d21; padding: 1.5mm 0 }
td { padding: 1.8mm 0; border-bottom: 1px solid #dfe3e8; vertical-align: top }
tr { break-inside: avoid }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
  padding-left: 5mm }
.note { color: #545b64; font-size: 8.5pt }
tfoot { display: table-row-group; break-inside: avoid }  /* once, not at the foot of each page */
tfoot td { border: 0; padding: 1.2mm 0 } tfoot tr:first-child td { padding-top: 4mm }
tfoot .total td { border-top: 2px solid #1a1d21; font-weight: 700; font-size: 12pt }
footer { margin-top: 12mm; color: #545b64; font-size: 8pt; overflow-wrap: anywhere }
"""
TITLES = {"invoice": "Invoice", "credit_note": "Credit note"}
KINDS = {
    "minimum": "Minimum",
    "commitment": "Commitment",
    "credit": "Credit",
    "discount": "Discount",
    "adjustment": "Adjustment",
}
CAUSES = {
    "late": "usage that arrived after the close",
    "void": "usage that was voided after the close",
    "reprice": "prices corrected after the close",
    "claimed": "usage attributed after the close",
}


def printed(invoice: Mapping[str, Any]) -> str:
    """The page of one document (its JSON, lines included). Every text is escaped."""
    title = TITLES[invoice["kind"]]
    name = invoice["number"] or "not numbered yet"
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(title)} {escape(name)}</title><style>{STYLE}</style></head><body>",
            f"<header><div><h1>{escape(title)}</h1>",
            f'<div class="number">{escape(name)}</div></div>',
            f'<div class="stamp {escape(invoice["status"])}">{escape(invoice["status"])}</div>',
            "</header>",
            _facts(invoice),
            _table(invoice),
            _footer(invoice),
            "</body></html>\n",
        )
    )


def _facts(invoice: Mapping[str, Any]) -> str:
    billed = f"{invoice['customer_name']} ({invoice['customer']})"
    facts = [
        ("Billed to", billed),
        ("Billing period", _period(invoice["period_start"], invoice["period_end"])),
        ("Issued", (invoice["issued_at"] or "not yet")[:10]),
        ("Contract", invoice["contract"] or "several"),
    ]
    if invoice["entity"]:
        facts.append(("Issued by", invoice["entity"]))
    if invoice["credits"]:
        facts.append(("Takes back", invoice.get("credited_number") or invoice["credits"]))
    cells = (f"<div><span>{escape(k)}</span>{escape(v)}</div>" for k, v in facts)
    return f'<section class="facts">{"".join(cells)}</section>'


def _period(start: str, end: str | None) -> str:
    return f"{start[:10]} until {end[:10]}" if end else f"from {start[:10]}"


def _table(invoice: Mapping[str, Any]) -> str:
    currency = escape(invoice["currency"])
    head = (
        '<table><thead><tr><th>Description</th><th class="n">Quantity</th>'
        f'<th class="n">{currency}</th></tr></thead><tbody>'
    )
    rows = "".join(_row(line, invoice) for line in invoice["lines"])
    return f"{head}{rows}</tbody><tfoot>{_sums(invoice)}</tfoot></table>"


def _row(line: Mapping[str, Any], invoice: Mapping[str, Any]) -> str:
    what, notes = _described(line, invoice)
    told = "".join(f'<div class="note">{escape(note)}</div>' for note in notes)
    return (
        f'<tr><td>{escape(what)}{told}</td><td class="n">{_grouped(line["quantity"])}</td>'
        f'<td class="n">{_grouped(line["amount"])}</td></tr>'
    )


def _described(line: Mapping[str, Any], invoice: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """What a line is for, and what to know about it."""
    product = line["product"] or f"contract {line['contract']}"
    kind = KINDS.get(line["kind"])
    what = product if kind is None else f"{kind}: {product}"
    group = " · ".join(f"{name}: {value}" for name, value in line["dimensions"].items())
    notes = [group] if group else []
    if line["cause"]:
        notes.append(f"{CAUSES[line['cause']]} (of {line['adjusts']})")
    own = (line["period_start"], line["period_end"])
    if own != (invoice["period_start"], invoice["period_end"]):
        notes.append(_period(*own))
    if invoice["contract"] is None:
        notes.append(f"contract {line['contract']}")
    return what, notes


def _sums(invoice: Mapping[str, Any]) -> str:
    rows = []
    if invoice["taxes"]:
        rows.append(("", "Subtotal", invoice["subtotal"]))
        rows.extend(_taxes(invoice["taxes"], invoice["tax"]))
    rows.append(("total", "Total", invoice["total"]))
    return "".join(
        f'<tr class="{css}"><td>{escape(name)}</td><td></td>'
        f'<td class="n">{_grouped(value)}</td></tr>'
        for css, name, value in rows
    )


def _taxes(taxes: Sequence[Mapping[str, Any]], whole: str) -> Iterator[tuple[str, str, str]]:
    """One row for the tax, naming the rates it is made of."""
    rates = sorted({(t["jurisdiction"], t["code"], t["rate"]) for t in taxes})
    named = ", ".join(f"{where} {code} {_percent(rate)}" for where, code, rate in rates)
    yield "", f"Tax ({named})", whole


def _percent(rate: str) -> str:
    """A fraction in per cent, exactly, by moving the point."""
    whole, _, part = rate.partition(".")
    digits = part.ljust(2, "0")
    text = f"{(whole + digits[:2]).lstrip('0') or '0'}.{digits[2:]}".rstrip("0").rstrip(".")
    return f"{text or '0'} %"


def _grouped(number: str) -> str:
    """A decimal with thousands apart and a true minus sign."""
    sign, digits = ("−", number[1:]) if number.startswith("-") else ("", number)
    whole, point, part = digits.partition(".")
    return f"{sign}{int(whole):,}{point}{part}".replace(",", "\u202f")


def _footer(invoice: Mapping[str, Any]) -> str:
    checksum = invoice.get("checksum")
    told = f" · SHA-256 {escape(checksum)}" if checksum else ""
    return f"<footer>{escape(invoice['id'])}{told}</footer>"
