"""`tallyman close`, `issue`: what changes the books, with what is going on while it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console

from api.cli.client import ApiClient, errors_shown
from api.cli.finance import Contract, Customer, show_invoice
from api.cli.output import Format, Output, OutputFile, console, money, write_json

Month = Annotated[str, typer.Argument(help="The month to close, YYYY-MM.")]
Invoice = Annotated[str | None, typer.Argument(help="An invoice's id; or leave it out.")]
JSON_ONLY = {Output.CSV, Output.PARQUET}


def close_command(month: Month, format_: Format = Output.TABLE, output: OutputFile = None) -> None:
    """Close a month: its lines never change again. Closing it again changes nothing."""
    _require_json(format_, "a close comes as table or json")
    working = _working(f"closing {month}: waiting for the readers, rating, writing")
    with errors_shown(), ApiClient.from_environment() as client, working:
        closed = client.post(f"/v1/periods/{quote(month, safe='')}/close")
    if format_ is Output.JSON:
        write_json(closed, output)
    else:
        show_closed(console(), closed)


def show_closed(to: Console, closed: dict[str, Any]) -> None:
    """Print what a month was closed as."""
    to.print(f"[bold]{closed['period']}[/bold] is {closed['status']} since {closed['closed_at']}")
    for currency, amount in closed["amounts"].items():
        to.print(f"  [bold]{money(amount)} {currency}[/bold]")
    to.print(f"  {closed['lines']:,} lines, as of {closed['as_of']}")
    to.print(f"  checksum {closed['checksum']}")


def issue_command(
    invoice: Invoice = None,
    period: Annotated[
        str | None, typer.Option("--period", help="Every draft of a period that is due.")
    ] = None,
    customer: Customer = None,
    contract: Contract = None,
    format_: Format = Output.TABLE,
    output: OutputFile = None,
) -> None:
    """Issue an invoice by its id, or every draft of a period that is due."""
    _require_json(format_, "an issue comes as table or json")
    if (invoice is None) == (period is None):
        raise typer.BadParameter("name an invoice, or a --period")
    with errors_shown(), ApiClient.from_environment() as client:
        if invoice is not None:
            issued = client.post(f"/v1/invoices/{quote(invoice, safe='')}/issue")
        else:
            asked = {"period": period, "customer": customer, "contract": contract}
            with _working(f"issuing what is due in {period}"):
                issued = client.post("/v1/invoices/issue", asked)
    if format_ is Output.JSON:
        write_json(issued, output)
    elif invoice is not None:
        show_invoice(console(), issued)
    else:
        show_issued(console(), issued)


def show_issued(to: Console, issued: dict[str, Any]) -> None:
    """Print what issuing many at once came to."""
    numbers = f" ({issued['first_number']} to {issued['last_number']})" if issued["issued"] else ""
    to.print(f"[bold]{issued['issued']:,}[/bold] invoices issued{numbers}")
    for currency, amount in issued["amounts"].items():
        to.print(f"  [bold]{money(amount)} {currency}[/bold]")
    if issued["not_due"]:
        to.print(f"  {issued['not_due']:,} are not due yet")
    for waiting in issued["waiting"]:
        to.print(f"  waiting: {waiting['id']}: {waiting['reason']}")


def _require_json(format_: Output, what: str) -> None:
    if format_ in JSON_ONLY:
        raise typer.BadParameter(what, param_hint="--format")


@contextmanager
def _working(what: str) -> Iterator[None]:
    """Say on standard error what is going on, with the time it has taken."""
    with Console(stderr=True).status(what):
        yield
