"""`tallyman simulate FILE --period …`: what a change of the catalog would have billed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.bar import Bar
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.cli.apply import show_mistakes
from api.cli.client import EXIT_REFUSED, ApiClient, ApiProblem, errors_shown
from api.cli.documents import load_documents
from api.cli.output import Format, Output, OutputFile, console, money, write, write_json

BAR_COLUMNS = 28
TOP = 20
CHART_COLUMNS = 110
PATCH_POINTER = "/patch"
COLUMNS = ("before", "after", "difference")

Item = Mapping[str, Any]


def simulate_command(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="YAML files: what to change.")
    ],
    period: Annotated[str, typer.Option("--period", help="YYYY, YYYY-Qn, YYYY-MM or YYYY-MM-DD")],
    customer: Annotated[
        list[str] | None, typer.Option(help="Only this customer; may be given again.")
    ] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="RFC 3339; default: now.")] = None,
    top: Annotated[int, typer.Option(help="Customers shown: those that change most.")] = TOP,
    chart: Annotated[
        Path | None, typer.Option(help="Also write table and chart as .svg or .html.")
    ] = None,
    format_: Format = Output.TABLE,
    output: OutputFile = None,
) -> None:
    """Rate a period again under a changed catalog, and compare. Nothing is changed."""
    if format_ is Output.PARQUET:
        raise typer.BadParameter("simulations come as table, json or csv", param_hint="--format")
    if chart is not None and chart.suffix not in {".svg", ".html"}:
        raise typer.BadParameter("a chart is written as .svg or .html", param_hint="--chart")
    with errors_shown():
        documents = load_documents(files)
        body = {"period": period, "patch": documents.tree, "customers": customer, "as_of": as_of}
        given = {name: value for name, value in body.items() if value}
        with ApiClient.from_environment() as client:
            try:
                answer = client.post("/v1/simulations", given)
            except ApiProblem as problem:
                if not any(each.pointer.startswith(PATCH_POINTER) for each in problem.errors):
                    raise
                complaints = Console(stderr=True)
                show_mistakes(problem, documents, complaints, under=PATCH_POINTER)
                raise typer.Exit(EXIT_REFUSED) from problem
        if chart is not None:
            write_chart(answer, chart, top=top)
        match format_:
            case Output.JSON:
                write_json(answer, output)
            case Output.CSV:
                write(as_csv(answer["items"]), output)
            case _:
                show_simulation(console(), answer, top=top)


def as_csv(items: Sequence[Item]) -> bytes:
    """The customers of a simulation, one row a customer and currency."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["customer", "currency", *COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(items)
    return text.getvalue().encode()


def write_chart(answer: Mapping[str, Any], path: Path, *, top: int) -> None:
    """What the terminal shows, as a picture (.svg) or a page (.html)."""
    recorded = Console(record=True, width=CHART_COLUMNS, file=io.StringIO(), force_terminal=True)
    show_simulation(recorded, answer, top=top)
    if path.suffix == ".svg":
        content = recorded.export_svg(title=f"tallyman simulate --period {answer['period']}")
    else:
        content = recorded.export_html()
    write(content.encode(), path)


def show_simulation(to: Console, answer: Mapping[str, Any], *, top: int) -> None:
    """Print the customers that change most, the products, and what it comes to."""
    items = sorted(answer["items"], key=lambda item: (-_size(item), item["customer"]))
    moved = [item for item in items if _size(item)]
    shown = moved[:top] or items[:top]
    title = f"{answer['period']}: {len(moved):,} of {len(items):,} customers change"
    to.print(_compared(title, "customer", shown))
    if len(shown) < len(items):
        to.print(f"  the {len(shown):,} that change most; --top shows more, --format csv all")
    to.print(_compared("By product", "product", answer["products"]))
    for currency, total in sorted(answer["totals"].items()):
        colour = _colour(total)
        to.print(
            f"  {money(total['before'])} → [bold]{money(total['after'])} {currency}[/bold]  "
            f"[{colour}]{_signed(total['difference'])}{_percent(total)}[/{colour}]"
        )
    for warning in answer["warnings"]:
        to.print(f"  [yellow]note:[/yellow] {escape(warning)}")
    to.print(
        f"  {answer['contracts_touched']:,} contracts rated again, "
        f"{answer['event_count']:,} events counted; nothing was changed"
    )
    to.print(f"  as of {answer['as_of']}, engine {answer['engine']}")


def _compared(title: str, name: str, items: Sequence[Item]) -> Table:
    """Amounts before and after, and the difference as figures and as a bar around a middle."""
    shown = Table(title=title, title_justify="left", header_style="bold")
    shown.add_column(name, overflow="fold")
    for column in (*COLUMNS, "%"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    shown.add_column("less · more", min_width=BAR_COLUMNS, max_width=BAR_COLUMNS)
    widest = dict(_widest(items))
    for item in items:
        colour = _colour(item)
        shown.add_row(
            escape(item[name] or "the contract"),
            money(item["before"]),
            money(item["after"]),
            f"[{colour}]{_signed(item['difference'])}[/{colour}]",
            f"[{colour}]{_percent(item).strip(' ()')}[/{colour}]",
            item["currency"],
            _bar(item, widest[item["currency"]]),
        )
    return shown


def _widest(items: Sequence[Item]) -> Iterator[tuple[str, Decimal]]:
    """The largest difference of each currency: amounts of two are not compared."""
    for currency in {item["currency"] for item in items}:
        yield currency, max(_size(item) for item in items if item["currency"] == currency)


def _bar(item: Item, widest: Decimal) -> Bar:
    """The difference from the middle: to the left what is less, to the right what is more."""
    share = float(Decimal(item["difference"]) / widest) if widest else 0.0  # only drawn
    begin, end = sorted((1.0, 1.0 + share))
    return Bar(2.0, begin, end, width=BAR_COLUMNS, color=_colour(item))


def _size(item: Item) -> Decimal:
    return abs(Decimal(item["difference"]))


def _colour(item: Item) -> str:
    difference = Decimal(item["difference"])
    return "white" if not difference else "green" if difference > 0 else "red"


def _signed(difference: str) -> str:
    return money(difference) if difference.startswith("-") else f"+{money(difference)}"


def _percent(item: Item) -> str:
    """The difference as a share of what was; nothing where there was nothing."""
    before = Decimal(item["before"])
    if not before:
        return ""
    return f" ({100 * Decimal(item['difference']) / abs(before):+.1f} %)"
