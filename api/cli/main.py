"""``tallyman``: the one command. Each of its commands is imported when it is run."""

from __future__ import annotations

import typer

from api.cli.lazy import LazyCommand, lazy_group

COMMANDS = {
    name: LazyCommand(module=module, attribute=attribute, help=text)
    for name, module, attribute, text in (
        ("serve", "api.cli.serve", "serve_command", "Run the service on this machine."),
        ("apply", "api.cli.apply", "apply_command", "Make the catalog what files say."),
        ("import", "api.cli.importing.command", "import_command", "Import a file of usage."),
        ("totals", "api.cli.finance", "totals_command", "Rated totals of a period."),
        ("simulate", "api.cli.simulate", "simulate_command", "Try a change on a past period."),
        ("explain", "api.cli.explain", "explain_command", "Why a line is what it is."),
        ("invoices", "api.cli.finance", "invoices_command", "Invoices of a period."),
        ("close", "api.cli.closing", "close_command", "Close a month."),
        ("issue", "api.cli.closing", "issue_command", "Issue invoices that are due."),
        ("verify", "api.cli.operations", "verify_command", "Compare every store with the log."),
        ("rebuild", "api.cli.operations", "rebuild_command", "Replay the log into a store."),
        ("audit", "api.cli.audit", "audit_command", "Who changed what, and when."),
        ("demo", "api.cli.demo.command", "demo_command", "From a month of usage to a bill."),
        ("node", "api.cli.node", "app", "The nodes of this deployment."),
        ("keys", "api.cli.keys", "app", "API keys."),
        ("exports", "api.cli.exports", "app", "Where closed lines and invoices are handed to."),
    )
}

app = typer.Typer(
    name="tallyman",
    cls=lazy_group(COMMANDS),
    help="Usage metering, rating and entitlements: what was used, what it costs, what is allowed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _group() -> None:
    """One command of several is chosen by its name."""


@app.command("version")
def version_command() -> None:
    """Print the version."""
    from api.version import VERSION  # noqa: PLC0415  (keeps --help fast)

    typer.echo(VERSION)


if __name__ == "__main__":
    app()
