"""``tallyman audit``: who changed what, and when."""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated

import typer
from rich.markup import escape

from api.cli.client import ApiClient, errors_shown
from api.cli.operations import Format, Output
from api.cli.output import console, table, write_json

_COLUMNS = ("at", "actor", "kind", "subject", "action")


def audit_command(
    kind: Annotated[str | None, typer.Option(help="contracts, keys, periods, …")] = None,
    subject: Annotated[str | None, typer.Option(help="The id of what was changed.")] = None,
    actor: Annotated[str | None, typer.Option(help="A key's id, or cli.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339, inclusive.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339, exclusive.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Entries at most.")] = 100,
    format_: Format = Output.TABLE,
) -> None:
    """Who changed what, the newest first."""
    asked = {"kind": kind, "subject": subject, "actor": actor, "from": since, "to": until}
    given = {name: value for name, value in asked.items() if value is not None}
    with errors_shown(), ApiClient.from_environment() as client:
        found = list(islice(client.items("/v1/audit", given), limit))
    if format_ is Output.JSON:
        write_json(found, None)
        return
    rows = [
        [*(escape(str(entry[name])) for name in _COLUMNS), escape(_shown(entry["summary"]))]
        for entry in found
    ]
    console().print(table((*_COLUMNS, "summary"), rows))


def _shown(summary: dict[str, object]) -> str:
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in summary.items()
        if value is not None
    )
