"""`tallyman keys`: made once, shown once, revoked for good."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from api.cli.client import ApiClient, errors_shown
from api.cli.operations import Data, Format, Output, at_rest
from api.cli.output import console, table, write_json
from catalog.errors import InvalidRequest
from catalog.keys import Scope

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """API keys: made once, shown once, revoked for good."""


@app.command("create")
def create_command(
    name: Annotated[str, typer.Argument(help="What it is for, e.g. checkout.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; repeat it for more.")],
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", help="It works until then (RFC 3339).")
    ] = None,
    customer: Annotated[
        list[str] | None, typer.Option(help="Limit it to this customer; repeat it for more.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Limit it to events of this source; repeat it.")
    ] = None,
    data: Data = None,
    format_: Format = Output.TABLE,
) -> None:
    """Make a key. Its text is printed now and never again."""
    new = {
        "name": name,
        "scopes": sorted({str(each) for each in scope}),
        "expires_at": expires_at,
        "customers": customer or None,
        "sources": source or None,
    }
    with errors_shown():
        if data is None:
            with ApiClient.from_environment() as client:
                made = client.post("/v1/keys", new)
        else:
            made = _create_offline(data, new)
    if format_ is Output.JSON:
        write_json(made, None)
        return
    console().print(f"key {made['id']} ({escape(name)}: {', '.join(made['scopes'])})")
    console().print("Keep its text, it is not kept here and not shown again:")
    typer.echo(made["key"])


@app.command("list")
def list_command(data: Data = None, format_: Format = Output.TABLE) -> None:
    """Every key, oldest first, revoked ones too."""
    with errors_shown():
        if data is None:
            with ApiClient.from_environment() as client:
                found = list(client.items("/v1/keys"))
        else:
            found = _list_offline(data)
    if format_ is Output.JSON:
        write_json(found, None)
        return
    columns = ("id", "name", "scopes", "created_at", "expires_at", "revoked_at", "limited to")
    rows = [
        [escape(_text(key[column])) for column in columns[:-1]] + [_limits(key)] for key in found
    ]
    console().print(table(columns, rows))


@app.command("revoke")
def revoke_command(
    key: Annotated[str, typer.Argument(help="The key's id, as `tallyman keys list` shows it.")],
    data: Data = None,
) -> None:
    """Close a key for good, from now on."""
    with errors_shown():
        if data is None:
            with ApiClient.from_environment() as client:
                client.delete(f"/v1/keys/{key}")
        else:
            _revoke_offline(data, key)
    console().print(f"{escape(key)} is revoked")


def _text(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value or "")


def _limits(key: dict[str, Any]) -> str:
    return escape(_text(key["customers"] or key["sources"]))


def _create_offline(data: Path, new: dict[str, Any]) -> Any:
    from api.routes.keys import NewKey, create_key  # noqa: PLC0415
    from api.wiring.offline import offline  # noqa: PLC0415

    try:
        expires = None if new["expires_at"] is None else datetime.fromisoformat(new["expires_at"])
        asked = NewKey(**{**new, "expires_at": expires})
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    with at_rest(), offline(data) as opened:
        return create_key(asked, keys=opened.keys, clock=opened.clock).model_dump(mode="json")


def _list_offline(data: Path) -> list[Any]:
    from api.routes.keys import KeyView  # noqa: PLC0415
    from api.wiring.offline import offline  # noqa: PLC0415

    with at_rest(), offline(data) as opened:
        return [KeyView.of(key).model_dump(mode="json") for key in opened.keys.all()]


def _revoke_offline(data: Path, key: str) -> None:
    from api.routes.keys import revoke_key  # noqa: PLC0415
    from api.wiring.offline import offline  # noqa: PLC0415

    with at_rest(), offline(data) as opened:
        revoke_key(key, keys=opened.keys, clock=opened.clock)
