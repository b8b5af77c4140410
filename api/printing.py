"""An invoice as a page for a printer: HTML that needs nothing else and says nothing twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, localcontext
from html import escape
from typing import Any

from api.wording import Wording
from catalog.money import minor_units

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
h1 { font-size: 20pt; line-height: 1.1; margin: 0; font-weight: 600; letter-spacing: -0.01em;
  white-space: nowrap }
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


def printed(invoice: Mapping[str, Any], wording: Wording) -> str:
    """The page of one document (its JSON, lines included). Every text is escaped."""
    invoice = {**invoice, "contract": _contract(invoice)}
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
            _facts(invoice, wording),
            _table(invoice, wording),
            _footer(invoice),
            "</body></html>\n",
        )
    )


def _facts(invoice: Mapping[str, Any], wording: Wording) -> str:
    issued = invoice["issued_at"]
    facts = [
        ("Billed to", f"{invoice['customer_name']} ({invoice['customer']})"),
        ("Billing period", wording.days(invoice["period_start"], invoice["period_end"])),
        ("Issued", wording.day(issued) if issued else "not yet"),
        ("Contract", invoice["contract"] or "several"),
    ]
    if wording.registration:
        facts.append(("Tax number", wording.registration))
    if invoice["entity"]:
        facts.append(("Issued by", invoice["entity"]))
    if invoice["credits"]:
        facts.append(("Takes back", invoice.get("credited_number") or invoice["credits"]))
    if invoice.get("reason"):
        facts.append(("Reason", invoice["reason"]))
    cells = (f"<div><span>{escape(k)}</span>{escape(v)}</div>" for k, v in facts)
    return f'<section class="facts">{"".join(cells)}</section>'


def _contract(invoice: Mapping[str, Any]) -> str | None:
    """The contract all of it is of; null where there are several."""
    (first, *others) = {line["contract"] for line in invoice["lines"]} or {invoice["contract"]}
    return None if others else first


def _table(invoice: Mapping[str, Any], wording: Wording) -> str:
    currency = escape(invoice["currency"])
    head = (
        '<table><thead><tr><th>Description</th><th class="n">Quantity</th>'
        f'<th class="n">{currency}</th></tr></thead><tbody>'
    )
    rows = "".join(_row(line, invoice, wording) for line in invoice["lines"])
    return f"{head}{rows}</tbody><tfoot>{_sums(invoice, wording)}</tfoot></table>"


def _row(line: Mapping[str, Any], invoice: Mapping[str, Any], wording: Wording) -> str:
    what, notes = _described(line, invoice, wording)
    told = "".join(f'<div class="note">{escape(note)}</div>' for note in notes)
    return (
        f'<tr><td>{escape(what)}{told}</td><td class="n">{_grouped(line["quantity"])}</td>'
        f'<td class="n">{_grouped(line["amount"])}</td></tr>'
    )


def _described(
    line: Mapping[str, Any], invoice: Mapping[str, Any], wording: Wording
) -> tuple[str, Sequence[str]]:
    """What a line is for, and what to know about it."""
    product = line["product"]
    named = wording.products.get(product, product) or f"contract {line['contract']}"
    kind = KINDS.get(line["kind"])
    what = named if kind is None else f"{kind}: {named}"
    group = " · ".join(f"{name}: {value}" for name, value in line["dimensions"].items())
    notes = [group] if group else []
    if line["cause"]:
        notes.append(f"{CAUSES[line['cause']]} (of {line['adjusts']})")
    own = (line["period_start"], line["period_end"])
    if own != (invoice["period_start"], invoice["period_end"]):
        notes.append(wording.days(*own))
    if invoice["contract"] is None:
        notes.append(f"contract {line['contract']}")
    return what, notes


def _sums(invoice: Mapping[str, Any], wording: Wording) -> str:
    rows = []
    if invoice["taxes"]:
        rows.append(("", "Subtotal, without tax", invoice["subtotal"]))
        rows.extend(("", *told) for told in _taxes(invoice, wording))
    total = f"Total {invoice['currency']}"
    if invoice.get("waiting"):
        rows.append(("", f"Tax is not known yet: {invoice['waiting']}", ""))
        total += ", without tax"
    if invoice["total"].startswith("-"):
        total += ", to your credit"
    rows.append(("total", total, invoice["total"]))
    return "".join(
        f'<tr class="{css}"><td colspan="2">{escape(name)}</td>'
        f'<td class="n">{_grouped(value)}</td></tr>'
        for css, name, value in rows
    )


def _taxes(invoice: Mapping[str, Any], wording: Wording) -> Iterator[tuple[str, str]]:
    """One row a rate: which, of how much, and what it comes to."""
    found: dict[tuple[str, str, str, bool], list[Mapping[str, str]]] = {}
    for tax in invoice["taxes"]:
        key = (tax["jurisdiction"], tax["code"] or "", tax["rate"], tax["inclusive"])
        found.setdefault(key, []).append(tax)
    digits = minor_units(invoice["currency"])
    for (where, code, rate, inclusive), rows in sorted(found.items()):
        base, amount = (_sum((row[name] for row in rows), digits) for name in ("base", "amount"))
        named = " ".join(filter(None, (wording.taxes.get(where, where), code, _percent(rate))))
        inside = ", in the prices above" if inclusive else ""
        exempt = f" ({wording.exempt})" if wording.exempt and rate == "0" else ""
        yield f"{named} on {_grouped(base)}{inside}{exempt}", amount


def _sum(amounts: Iterable[str], digits: int) -> str:
    """An exact sum, with a currency's digits."""
    with localcontext(prec=60):
        return f"{sum(map(Decimal, amounts), Decimal(0)):.{digits}f}"


def _percent(rate: str) -> str:
    """A fraction in per cent, exactly, by moving the point."""
    whole, _, part = rate.partition(".")
    digits = part.ljust(2, "0")
    text = f"{(whole + digits[:2]).lstrip('0') or '0'}.{digits[2:]}".rstrip("0").rstrip(".")
    return f"{text or '0'} %"


def _grouped(number: str) -> str:
    """A decimal with thousands apart and a true minus sign."""
    if not number:
        return ""
    sign, digits = ("−", number[1:]) if number.startswith("-") else ("", number)
    whole, point, part = digits.partition(".")
    return f"{sign}{int(whole):,}{point}{part}".replace(",", "\u202f")


def _footer(invoice: Mapping[str, Any]) -> str:
    checksum = invoice.get("checksum")
    told = f" · SHA-256 {escape(checksum)}" if checksum else ""
    return f"<footer>{escape(invoice['id'])}{told}</footer>"
