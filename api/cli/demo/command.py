"""`tallyman demo`: the whole story, from nothing to an invoice, on a fresh data directory."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from api.cli.client import ApiClient, errors_shown
from api.cli.demo.month import (
    Month,
    Shape,
    bodies,
    customer_name,
    customers_document,
    generate,
)
from api.cli.demo.race import show_race
from api.cli.finance import show_invoice, sums
from api.cli.output import console, money, table
from catalog.errors import Unavailable

LAST_MINUTE = "2026-01-31T23:59:00Z"
NEXT_MONTH = "2026-02-01T00:00:00Z"
BATCH = "application/cloudevents-batch+json"
SENDERS = 4
READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
FOLLOWED_S_MAX = 10.0


@dataclass(slots=True)
class Sent:
    """What the gateway answered, added up."""

    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    seconds: float = 0.0


def demo_command(
    events: Annotated[int, typer.Option(min=1_000, help="Events in the month.")] = 400_000,
    seed: Annotated[int, typer.Option(help="The month's seed.")] = 2026,
    data: Annotated[Path | None, typer.Option(help="Keep the data here.")] = None,
) -> None:
    """A month of usage becomes a bill, in about a minute."""
    to = console()
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="tallyman-demo-") as scratch,
        errors_shown(),
        _service(data or Path(scratch) / "data") as client,
    ):
        _story(to, client, Shape(seed=seed, events=events))
    to.print(f"\nDone in {time.monotonic() - begun:.0f} s.")


@contextmanager
def _service(data: Path) -> Iterator[ApiClient]:
    """The real service in a sandbox whose clock stands just before the month's end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key = secrets.token_hex(24)
    command = [sys.executable, "-m", "api.cli.main", "serve"]
    command += ["--data", str(data), "--port", str(port), "--sandbox", "--now", LAST_MINUTE]
    log = data.with_name("demo-service.log")
    data.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            # A child's environment is made from ours; settings are still read in one place.
            env={**os.environ, "TALLYMAN_ADMIN_KEY": key},  # noqa: TID251
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            client = ApiClient(f"http://127.0.0.1:{port}", key)
            _wait_ready(client, process, log)
            yield client
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def _wait_ready(client: ApiClient, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.get("/readyz")
        except Exception:  # noqa: BLE001 - whatever it is, it is not ready yet
            time.sleep(0.1)
        else:
            return
    tail = log.read_text(errors="replace")[-2_000:]
    raise Unavailable(f"the service did not become ready; its log ends:\n{tail}")


def _story(to: Console, client: ApiClient, shape: Shape) -> None:
    to.rule("[bold]Tallyman: a month of usage becomes a bill")
    _apply(to, client, shape)
    month = generate(shape)
    sent = _post(to, client, month.on_time, "posting January")
    _show_ingest(to, sent, month)
    _show_balance(to, client)
    show_race(to, client)
    client.post("/v1/admin/clock", {"now": NEXT_MONTH})
    late = _post(to, client, month.late, "late arrivals, clock at 1 February")
    to.print(f"  {late.accepted:,} late events accepted into January: it is not closed yet.")
    _show_totals(to, client, month)
    _show_verify(to, client)
    to.print(
        "\nNext: [bold]make serve[/bold] for a service of your own, docs/api.md for the API by "
        "example,\ndocs/examples/switch-ports for a real trace, docs/architecture.md for the map."
    )


def _apply(to: Console, client: ApiClient, shape: Shape) -> None:
    text = files("api.cli.demo").joinpath("catalog.yaml").read_text()
    document = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - every scalar stays text
    document |= customers_document(shape)
    answer = client.post("/v1/catalog", {"document": document})
    to.print(
        f"Catalog applied: {len(answer['changes']):,} objects "
        f"(3 meters, 4 products, 1 pricebook, {shape.customers} customers and contracts)."
    )


def _post(to: Console, client: ApiClient, events: pl.DataFrame, title: str) -> Sent:
    """Send every batch from a few threads; every identity once but for the retries in it."""
    sent = Sent()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    begun = time.monotonic()
    with (
        Progress(*columns, TimeElapsedColumn(), console=to) as progress,
        ThreadPoolExecutor(SENDERS) as pool,
    ):
        task = progress.add_task(title, total=events.height)

        def send(batch: tuple[bytes, int]) -> tuple[int, dict[str, Any]]:
            body, count = batch
            return count, client.post_bytes("/v1/events", body, content_type=BATCH)

        for count, reply in pool.map(send, bodies(events, batch_rows=1_000)):
            sent.events += count
            sent.accepted += reply["accepted"]
            sent.duplicates += reply["duplicates"]
            sent.rejected += len(reply["rejected"])
            progress.advance(task, count)
    sent.seconds = time.monotonic() - begun
    return sent


def _show_ingest(to: Console, sent: Sent, month: Month) -> None:
    rate = sent.events / sent.seconds
    to.print(
        f"  {sent.events:,} events posted in {sent.seconds:.1f} s = "
        f"[bold]{rate:,.0f} events/s[/bold], each durable before its reply:"
    )
    to.print(
        f"  {sent.accepted:,} accepted, {sent.duplicates:,} duplicates "
        f"(the product retried {month.retries:,} times), {sent.rejected:,} rejected."
    )


def _show_balance(to: Console, client: ApiClient) -> None:
    name = customer_name(0)
    balance = _followed(client, f"/v1/customers/{name}/entitlements/tokens")
    to.print(f"\nMay {name} use more tokens? (a hard limit, checked before serving)")
    rows = [(key, str(balance[key])) for key in ("allowance", "used", "held", "balance", "overage")]
    to.print(table(("tokens", "units>"), [(k, money(v) if v else "") for k, v in rows]))
    too_much = str(Decimal(balance["balance"]) + 1)
    for amount in ("50000", too_much):
        item = {"feature": "tokens", "amount": amount}
        checks = {"checks": [{"customer": name, "items": [item]}]}
        result = client.post("/v1/entitlements/check", checks)["results"][0]
        verdict = "[green]allowed[/green]" if result["allowed"] else "[red]denied[/red]"
        reason = result["items"][0]["reason"]
        to.print(f"  check {money(amount)} tokens: {verdict}{f' ({reason})' if reason else ''}")


def _followed(client: ApiClient, path: str) -> dict[str, Any]:
    """A balance that has followed what was posted: it counts something, and moves no more."""
    begun, before = time.monotonic(), "0"
    while True:
        balance: dict[str, Any] = client.get(path)
        level = balance["used"] == before and Decimal(before)
        if level or time.monotonic() - begun > FOLLOWED_S_MAX:
            return balance
        before = balance["used"]
        time.sleep(0.1)


def _show_totals(to: Console, client: ApiClient, month: Month) -> None:
    begun = time.monotonic()
    first = client.get("/v1/totals", {"period": "2026-01", "limit": 1_000})
    seconds = time.monotonic() - begun
    items = list(client.items("/v1/totals", {"period": "2026-01", "as_of": first["as_of"]}))
    tokens = sum(Decimal(line["quantity"]) for line in items if line["product"] == "tokens")
    to.print(f"\nRated totals of January: {len(items):,} lines in {seconds * 1000:.0f} ms.")
    rows = []
    for product in ("tokens", "requests", "egress", "platform"):
        lines = [line for line in items if line["product"] == product]
        amount = sums(lines, "amount").get("USD", "0.00")
        units = f"{sum((Decimal(line['quantity']) for line in lines), Decimal(0)):f}"
        rows.append((product, f"{len(lines):,}", money(units), money(amount)))
    rows.append(("[bold]all[/bold]", f"{len(items):,}", "", money(sums(items, "amount")["USD"])))
    to.print(table(("product", "lines>", "units>", "USD>"), rows))
    equal = tokens == month.tokens()
    verdict = "[green]equal[/green]" if equal else "[red]DIFFERENT[/red]"
    to.print(f"  Tokens counted by the generator: {month.tokens():,}; by the service: {verdict}.")
    to.print(f"  as of {first['as_of']}, checksum {first['checksum'][:16]}…")
    name = customer_name(1)
    for invoice in client.items("/v1/invoices", {"period": "2026-01", "customer": name}):
        show_invoice(to, invoice)
    if not equal:
        raise typer.Exit(1)


def _show_verify(to: Console, client: ApiClient) -> None:
    begun = time.monotonic()
    report = client.post("/v1/admin/verify")
    verdict = "[green]clean[/green]" if report["ok"] else "[red]NOT clean[/red]"
    to.print(
        f"\nVerify: log, segments, facts, ClickHouse and balances compared in "
        f"{time.monotonic() - begun:.1f} s: {verdict} ({len(report['checks'])} checks)."
    )
    if not report["ok"]:
        raise typer.Exit(1)
