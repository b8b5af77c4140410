"""`tallyman totals`, `explain` and `invoices`: what finance asks, as tables or files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from api.cli.client import ApiClient, Params, errors_shown
from api.cli.output import (
    Format,
    Output,
    OutputFile,
    console,
    heading,
    money,
    table,
    write,
    write_json,
)

Period = Annotated[str, typer.Option("--period", help="YYYY, YYYY-Qn, YYYY-MM or YYYY-MM-DD")]
Customer = Annotated[str | None, typer.Option(help="Only this customer.")]
Contract = Annotated[str | None, typer.Option(help="Only this contract.")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="As it was known then (RFC 3339).")]

MEDIA_TYPES = {Output.CSV: "text/csv", Output.PARQUET: "application/vnd.apache.parquet"}


def totals_command(
    period: Period,
    customer: Customer = None,
    contract: Contract = None,
    as_of: AsOf = None,
    zeros: Annotated[bool, typer.Option("--zeros", help="Also lines of nothing.")] = False,
    format_: Format = Output.TABLE,
    output: OutputFile = None,
) -> None:
    """Rated totals of a period."""
    asked: Params = {
        "period": period,
        "customer": customer,
        "contract": contract,
        "as_of": as_of,
        "zeros": "true" if zeros else None,
    }
    with errors_shown(), ApiClient.from_environment() as client:
        if format_ in MEDIA_TYPES:
            body, _ = client.get_bytes("/v1/totals", asked, accept=MEDIA_TYPES[format_])
            write(body, output)
            return
        answer = _all_pages(client, asked)
        if format_ is Output.JSON:
            write_json(answer, output)
        else:
            show_totals(console(), answer)


def _all_pages(client: ApiClient, asked: Params) -> dict[str, Any]:
    """The whole answer. ``as_of`` is pinned after the first page, so the pages fit together."""
    page = client.get("/v1/totals", {**asked, "limit": 1_000})
    answer, items = dict(page), list(page["items"])
    while page["next_cursor"]:
        pinned = {"as_of": answer["as_of"], "limit": 1_000, "cursor": page["next_cursor"]}
        page = client.get("/v1/totals", {**asked, **pinned})
        items.extend(page["items"])
    return answer | {"items": items, "next_cursor": None}


def show_totals(to: Console, answer: dict[str, Any]) -> None:
    """Print lines, their sums per currency, and what the answer is as of."""
    rows = [_line_row(line) for line in answer["items"]]
    columns = (
        "customer",
        "contract",
        "product",
        "kind",
        "timing",
        "period",
        "quantity>",
        "amount>",
    )
    heading(to, f"Totals {answer['period']}")
    to.print(table((*columns, ""), rows))
    _show_sums(to, answer["items"], "amount", what="lines")
    to.print(f"  as of {answer['as_of']}, engine {answer['engine']}, checksum {answer['checksum']}")


def _line_row(line: dict[str, Any]) -> Sequence[str]:
    dimensions = " ".join(f"{name}={value}" for name, value in line["dimensions"].items())
    return (
        line["customer"],
        line["contract"],
        escape(f"{line['product'] or ''} {dimensions}".strip()),
        line["kind"],
        line["timing"],
        f"{line['period_start'][:10]} – {(line['period_end'] or '')[:10]}",
        money(line["quantity"]),
        money(line["amount"]),
        line["currency"],
    )


def _show_sums(to: Console, items: Sequence[dict[str, Any]], column: str, *, what: str) -> None:
    """How many there are of each currency, and what they come to."""
    counts = Counter(item["currency"] for item in items)
    for currency, amount in sums(items, column).items():
        to.print(f"  {counts[currency]:,} {what}, [bold]{money(amount)} {currency}[/bold]")


def sums(items: Sequence[dict[str, Any]], column: str) -> dict[str, str]:
    """The exact sum of a column per currency."""
    found: dict[str, Decimal] = defaultdict(Decimal)
    for item in items:
        found[item["currency"]] += Decimal(item[column])
    return {currency: f"{amount:f}" for currency, amount in sorted(found.items())}


def invoices_command(
    period: Period,
    customer: Customer = None,
    contract: Contract = None,
    status: Annotated[str | None, typer.Option(help="draft, issued or void")] = None,
    timing: Annotated[str | None, typer.Option(help="arrears, advance or once")] = None,
    format_: Format = Output.TABLE,
    output: OutputFile = None,
) -> None:
    """Invoices of a period; drafts until they are issued."""
    asked: Params = {
        "period": period,
        "customer": customer,
        "contract": contract,
        "status": status,
        "timing": timing,
    }
    if format_ in MEDIA_TYPES:
        raise typer.BadParameter("invoices come as table or json", param_hint="--format")
    with errors_shown(), ApiClient.from_environment() as client:
        invoices = list(client.items("/v1/invoices", asked))
    if format_ is Output.JSON:
        write_json(invoices, output)
        return
    to = console()
    for invoice in invoices:
        show_invoice(to, invoice)
    _show_sums(to, invoices, "total", what="invoices")
    if not invoices:
        to.print(f"No invoices in {period}.")


def show_invoice(to: Console, invoice: dict[str, Any]) -> None:
    """Print one invoice as a document a person can check."""
    number = invoice["number"] or f"{invoice['status']} {invoice['id']}"
    until = (invoice["period_end"] or "")[:10]
    whose = [invoice["customer"]]
    if invoice["contract"] is not None:
        whose.append(f"contract {invoice['contract']}")
    terms = [*whose, invoice["timing"], f"{invoice['period_start'][:10]} until {until}"]
    rows = [
        (row[2], row[3], row[6], row[7]) for row in (_line_row(line) for line in invoice["lines"])
    ]
    heading(to, number)
    heading(to, ", ".join(terms))
    shown = table(("line", "kind", "quantity>", f"{invoice['currency']}>"), rows)
    shown.add_section()
    if Decimal(invoice["tax"]):
        shown.add_row("subtotal", "", "", money(invoice["subtotal"]))
        shown.add_row("tax", "", "", money(invoice["tax"]))
    shown.add_row("[bold]total[/bold]", "", "", f"[bold]{money(invoice['total'])}[/bold]")
    to.print(shown)
    if invoice.get("waiting"):
        to.print(f"  [yellow]cannot be issued yet:[/yellow] {escape(invoice['waiting'])}")
