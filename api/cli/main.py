"""``tallyman``: the one command. Commands import what they need when they run."""

from __future__ import annotations

import typer

from api.cli.node import app as node_app
from api.cli.serve import serve_command

app = typer.Typer(
    name="tallyman",
    help="Usage metering, rating and entitlements: what was used, what it costs, what is allowed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("serve")(serve_command)
app.add_typer(node_app, name="node")


@app.command("version")
def version_command() -> None:
    """Print the version."""
    from api.version import VERSION  # noqa: PLC0415  (keeps --help fast)

    typer.echo(VERSION)


if __name__ == "__main__":
    app()
