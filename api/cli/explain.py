"""`tallyman explain LINE`: a line told from what was used to what is billed, as on the phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.cli.client import ApiClient, errors_shown
from api.cli.output import Format, Output, OutputFile, console, money, write_json
from catalog.money import plain

Told = Mapping[str, Any]
Row = tuple[str, str, str]
"""What happens, how, and what it comes to."""


def explain_command(
    line: Annotated[str, typer.Argument(help="A line_id of `tallyman totals --format json`.")],
    as_of: Annotated[str | None, typer.Option("--as-of", help="As it was known then.")] = None,
    events: Annotated[int, typer.Option(help="Show so many of its events.", max=1_000)] = 0,
    format_: Format = Output.TABLE,
    output: OutputFile = None,
) -> None:
    """Why a line is what it is, step by step."""
    if format_ in {Output.CSV, Output.PARQUET}:
        raise typer.BadParameter("explanations come as table or json", param_hint="--format")
    path = f"/v1/totals/{quote(line, safe='')}"
    with errors_shown(), ApiClient.from_environment() as client:
        explained = client.get(f"{path}/explain", {"as_of": as_of})
        asked = {"as_of": explained["as_of"], "limit": events}
        listed = client.get(f"{path}/events", asked)["items"] if events > 0 else []
    if format_ is Output.JSON:
        write_json(explained | ({"events": listed} if listed else {}), output)
        return
    show_explanation(console(), explained)
    if listed:
        console().print(_events(explained, listed))


def show_explanation(to: Console, explained: Told) -> None:
    """Print an explanation in the order one would say it on the phone."""
    line, price = explained["line"], explained["price"]
    to.print(f"[bold]{escape(_what(line))}[/bold] for {line['customer']}, {_contract(line)}")
    to.print(f"  {_day(line['period_start'])} to {_day(line['period_end'])}, {_timing(line)}")
    for words in _price(price, line):
        to.print(f"  {escape(words)}")
    shown = Table(show_header=True, header_style="bold")
    shown.add_column("")
    shown.add_column("")
    shown.add_column(line["currency"], justify="right", no_wrap=True)
    for what, how, amount in _rows(explained):
        shown.add_row(escape(what), escape(how), amount)
    shown.add_section()
    last = "in all" if explained.get("adjustment") else "billed"
    shown.add_row(last, _rounding(explained), f"[bold]{money(explained['amount'])}[/bold]")
    to.print(shown)
    for words in _adjusted(explained):
        to.print(f"  {escape(words)}")
    to.print(f"  as of {explained['as_of']}, engine {explained['engine']}")


def _adjusted(explained: Told) -> Iterator[str]:
    """What an adjustment is beside the line it adjusts, which is what was explained."""
    own = explained.get("adjustment")
    if own is None:
        return
    currency = explained["line"]["currency"]
    yield f"that is what line {own['adjusts']} comes to"
    yield (
        f"line {own['line_id']} adds what was not closed for it ({own['cause']}): "
        f"quantity {number(own['quantity'])}, {money(own['amount'])} {currency}"
    )


def _rows(explained: Told) -> Iterator[Row]:
    line, counted = explained["line"], explained["event_count"]
    if line["kind"] in {"usage", "fixed"}:
        events = f"{counted:,} event{'' if counted == 1 else 's'}" if counted else ""
        meter = f" ({line['meter']})" if line["meter"] else ""
        yield f"quantity{meter}", events, number(explained["quantity"])
    elif explained["steps"] and explained["steps"][0]["before"] != "0":
        yield "of", "", number(explained["steps"][0]["before"])
    yield from map(_piece, explained["pieces"])
    for step in explained["steps"]:
        if step["step"] == "charge":
            yield from map(_part, explained["parts"])
            yield "together", "", number(step["after"])
            continue
        yield step["step"], _how(step, explained["price"]), number(step["after"])


def _piece(piece: Told) -> Row:
    """A stretch, row or window of the usage that is priced by itself."""
    sign = "less " if piece["sign"] == "-1" else ""
    steps = dict.fromkeys([piece["quantity"], piece["converted"], piece["units"]])
    return f"  {piece['piece'] or 'all'}", sign + " → ".join(map(number, steps)), ""


def _part(part: Told) -> Row:
    """One tier (or the whole) as it was priced."""
    name = f"  {part['piece']}" if part["piece"] else "  price"
    if part["tier"] is not None:
        upto = f" to {number(part['units_to'])}" if part["units_to"] else ""
        over = f"over {number(part['units_from'])}"
        name = f"{name if part['piece'] else ' '} tier {part['tier']} ({over}{upto})"
    units = number(part["units"])
    if part["package_size"]:
        units = f"{units} = {number(part['priced'])} packages of {number(part['package_size'])}"
    how = (
        []
        if part["unit_price"] == "0" and part["flat_fee"] != "0"
        else [f"{units} × {number(part['unit_price'])}"]
    )
    if part["flat_fee"] not in {None, "0"}:
        how.append(f"fee {number(part['flat_fee'])}")
    capped = f", at most {number(part['maximum'])}" if part["maximum"] else ""
    return name, " + ".join(how) + capped, number(part["amount"])


_WORDS: dict[str, Callable[[str, Told], str]] = {
    "convert": lambda stated, price: f"× {number(stated)}{_rounded(price)}",
    "included": lambda stated, _: f"{number(stated)} are free",
    "commitment": lambda stated, price: f"promised {number(stated)}{_overage(price)}",
    "prorate": lambda stated, price: f"× {number(stated)} of the period, by {price['prorate']}",
    "multiply": lambda stated, price: f"× {number(stated)}, by contract {price['origin_id']}",
    "discount": lambda stated, _: f"{_percent(1 - Fraction(stated))} off",
    "maximum": lambda stated, _: f"at most {number(stated)}",
    "minimum": lambda stated, _: f"at least {number(stated)}",
}


def _how(step: Told, price: Told) -> str:
    """A step's term in words; of a contract as a whole the number it states."""
    if step["stated"] is None:
        return ""
    if step["step"] == "percent":
        return _percent(Fraction(step["stated"]))
    words = _WORDS.get(step["step"]) if price["billing_period"] is not None else None
    return number(step["stated"]) if words is None else words(step["stated"], price)


def _rounded(price: Told) -> str:
    if price["convert_round"] in {None, "none"}:
        return ""
    return (
        f", rounded {price['convert_round'].replace('_', ' ')} to {price['convert_digits']} digits"
    )


def _overage(price: Told) -> str:
    rate = price["overage_multiplier"]
    return "" if rate is None else f", × {number(rate)} beyond"


def _price(price: Told, line: Told) -> Iterator[str]:
    if price["billing_period"] is None:
        yield f"by the contract's {price['key']}, as stated in revision {price['revision']}"
        return
    origin = (
        f"list price '{price['key']}' of pricebook {price['origin_id']}"
        if price["origin"] == "list"
        else f"contract {price['origin_id']}'s own terms for '{price['key']}'"
    )
    yield f"{price['model'].replace('_', ' ')}: {origin}"
    yield f"price version {price['version']}, stated in revision {price['revision']}"
    low, high = price["from_period"], price["to_period"]
    if low is not None or high is not None:
        span = f"{low or 1} to {high}" if high else f"{low} on"
        yield f"a ramp: for billing periods {span}; this is number {price['billing_period']}"
    if (line["period_start"], line["period_end"]) != (line["billing_start"], line["billing_end"]):
        whole = f"{_day(line['billing_start'])} to {_day(line['billing_end'])}"
        part = number(price["share"])
        yield f"a part ({part}) of the billing period {whole}: terms changed in it"
    if price["tiers_span_months"] is not None:
        yield f"tiers count over {price['tiers_span_months']} months"


def _what(line: Told) -> str:
    product = line["product"] or "the contract"
    if line["kind"] not in {"usage", "fixed"}:
        return f"{line['kind']} on {product}"
    named = " ".join(f"{name}={value}" for name, value in line["dimensions"].items())
    return f"{product} {named}".strip()


def _contract(line: Told) -> str:
    return f"contract {line['contract']}"


def _timing(line: Told) -> str:
    return {
        "arrears": "billed at its end",
        "advance": "billed at its beginning",
        "once": "billed once",
    }[line["timing"]]


def _day(instant: str | None) -> str:
    """``2026-01-01`` for a midnight, the whole instant else."""
    if instant is None:
        return "no end"
    return instant.removesuffix("T00:00:00Z")


def _rounding(explained: Told) -> str:
    """How the exact amount became the one that is billed; nothing where it already was it."""
    exact = explained["exact_amount"]
    if Fraction(exact) == Fraction(explained["amount"]):
        return ""
    return f"rounded once, half away from zero, to {explained['rounding']['decimals']} decimals"


def number(text: str | None) -> str:
    """An exact number for reading: digits grouped; a fraction with what it is about."""
    if text is None:
        return ""
    if "/" not in text:
        return money(text)
    top, _, bottom = text.partition("/")
    return f"{money(top)}/{money(bottom)} ≈ {money(f'{Decimal(top) / Decimal(bottom):.6f}')}"


def _percent(share: Fraction) -> str:
    """A share as a percentage: the terms of catalogs have few decimals."""
    return f"{money(plain(Decimal((100 * share).numerator) / (100 * share).denominator))} %"


def _events(explained: Told, listed: list[Told]) -> Table:
    """The first events behind the line."""
    title = f"the first {len(listed):,} of {explained['event_count']:,} events"
    shown = Table(title=title, title_justify="left", header_style="bold")
    for column in ("time", "subject", "value", "dimensions", "log"):
        shown.add_column(column, justify="right" if column == "value" else "left")
    for event in listed:
        named = " ".join(f"{name}={value}" for name, value in event["dimensions"].items())
        place = f"{event['node']}/{event['seq']}"
        shown.add_row(event["time"], event["subject"], number(event["value"]), escape(named), place)
    return shown
