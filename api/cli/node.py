"""``tallyman node``: the nodes whose silence the watermark waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from catalog.errors import DomainError

app = typer.Typer(help="The nodes of this deployment.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The nodes of this deployment."""


@app.command("retire")
def retire_command(
    node: Annotated[str, typer.Argument(help="The node's name, e.g. n2.")],
    data: Annotated[Path | None, typer.Option(help="The data directory.")] = None,
) -> None:
    """Record that a node will not return, so that the watermark no longer waits for it."""
    from api.service import sql_url  # noqa: PLC0415  (keeps --help fast)
    from api.settings import read_settings  # noqa: PLC0415
    from catalog.ids import NodeId  # noqa: PLC0415
    from storage.clock import open_clock  # noqa: PLC0415
    from storage.sql.database import open_database  # noqa: PLC0415
    from storage.sql.nodes import NodeRegistry  # noqa: PLC0415

    settings = read_settings(data=data)
    if settings.sql_url is None and not (settings.data / "catalog.sqlite").exists():
        typer.echo(f"tallyman: there is no service's data in {settings.data}", err=True)
        raise typer.Exit(1)
    try:
        clock = open_clock(settings.data, sandbox=(settings.data / "clock").exists())
        database = open_database(sql_url(settings))
        try:
            NodeRegistry(database, clock).retire(NodeId(node))
        finally:
            database.close()
    except DomainError as error:
        typer.echo(f"tallyman: {error.detail}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{node} is retired")
