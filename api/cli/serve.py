"""``tallyman serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from catalog.errors import DomainError

EXIT_CONFIG = 78


def serve_command(
    data: Annotated[Path | None, typer.Option(help="The data directory.")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")] = None,
    gateways: Annotated[int | None, typer.Option(help="How many gateway processes.")] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="The clock stands still and is moved by hand.")
    ] = False,
    now: Annotated[str | None, typer.Option(help="Where a sandbox's clock begins.")] = None,
) -> None:
    """Run the service on this machine until Ctrl-C. Settings are TALLYMAN_* as well."""
    from pydantic import ValidationError  # noqa: PLC0415  (keeps --help fast)

    from api.service import serve  # noqa: PLC0415
    from api.settings import read_settings  # noqa: PLC0415

    try:
        settings = read_settings(
            data=data, host=host, port=port, gateways=gateways, sandbox=sandbox or None, now=now
        )
        code = serve(settings, say=lambda line: print(line, flush=True))
    except ValidationError as error:
        for each in error.errors():
            place = ".".join(str(step) for step in each["loc"])
            typer.echo(f"tallyman: {place}: {each['msg']}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except DomainError as error:
        typer.echo(f"tallyman: {error.detail}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(code)
