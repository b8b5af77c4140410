"""`tallyman exports`: destinations as reviewed files, run, looked at and replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from api.cli.client import ApiClient, ApiProblem, errors_shown
from api.cli.documents import load_documents
from api.cli.operations import Format, Output
from api.cli.output import console, table, write_json
from catalog.errors import InvalidRequest

app = typer.Typer(help="Where closed lines and invoices are handed to.", no_args_is_help=True)
SECTION = "exports"
Export = Annotated[str, typer.Argument(help="The export's id.")]
RUN_COLUMNS = ("number>", "status", "positions", "rows>", "tries>", "delivered_at", "error")


@app.callback()
def _group() -> None:
    """Where closed lines and invoices are handed to."""


@app.command("apply")
def apply_command(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="YAML files: exports: {…}.")
    ],
) -> None:
    """Declare what the files name; other destinations stay as they are."""
    with errors_shown(), ApiClient.from_environment() as client:
        for name, body in _declared(files).items():
            try:
                view = client.put(_path(name), body)
            except ApiProblem as problem:
                for error in problem.errors:
                    console().print(escape(f"{name}{error.pointer}: {error.detail}"))
                raise
            console().print(f"{escape(name)} is declared, revision {view['revision']}")


def _declared(files: Sequence[Path]) -> Mapping[str, Any]:
    tree = load_documents(files).tree
    if set(tree) != {SECTION} or not isinstance(tree[SECTION], Mapping):
        raise InvalidRequest(f"a file of exports has one section, '{SECTION}', by id")
    declared: Mapping[str, Any] = tree[SECTION]
    return declared


@app.command("list")
def list_command(format_: Format = Output.TABLE) -> None:
    """Every destination, with how far it is."""
    with errors_shown(), ApiClient.from_environment() as client:
        found = list(client.items("/v1/exports"))
    if format_ is Output.JSON:
        write_json(found, None)
        return
    rows = [
        (
            escape(each["id"]),
            each["kind"],
            f"{each.get('document', 'lines')} as {each['format']}",
            escape(str(each.get("folder") or each.get("url"))),
            str(each["position"]),
            str(each["waiting"]),
            " ".join(f"{count} {status}" for status, count in each["runs"].items() if count),
        )
        for each in found
    ]
    columns = ("id", "kind", "what", "where", "position>", "waiting>", "runs")
    console().print(table(columns, rows))


@app.command("run")
def run_command(export: Export, format_: Format = Output.TABLE) -> None:
    """Hand over everything there is now."""
    with errors_shown(), ApiClient.from_environment() as client:
        answer = client.post(f"{_path(export)}/run", None)
    _show(answer["runs"], format_)


@app.command("runs")
def runs_command(export: Export, format_: Format = Output.TABLE) -> None:
    """What was handed over, the newest first."""
    with errors_shown(), ApiClient.from_environment() as client:
        found = list(client.items(f"{_path(export)}/runs"))
    _show(found, format_)


@app.command("replay")
def replay_command(
    export: Export,
    number: Annotated[int, typer.Argument(help="The run's number.")],
    format_: Format = Output.TABLE,
) -> None:
    """Deliver a run again: the same bytes under the same id."""
    with errors_shown(), ApiClient.from_environment() as client:
        run = client.post(f"{_path(export)}/runs/{number}/replay", None)
    _show([run], format_)


@app.command("remove")
def remove_command(export: Export) -> None:
    """End a destination; its runs stay on record."""
    with errors_shown(), ApiClient.from_environment() as client:
        client.delete(_path(export))
    console().print(f"{escape(export)} is ended")


def _path(export: str) -> str:
    return f"/v1/exports/{quote(export, safe='')}"


def _show(runs: Sequence[Mapping[str, Any]], format_: Output) -> None:
    if format_ is Output.JSON:
        write_json(list(runs), None)
        return
    rows = [
        (
            str(run["number"]),
            run["status"],
            f"{run['after'] + 1}–{run['upto']}",
            str(run["rows"] if run["rows"] is not None else ""),
            str(run["attempts"]),
            run["delivered_at"] or "",
            escape(run["error"] or ""),
        )
        for run in runs
    ]
    console().print(table(RUN_COLUMNS, rows) if rows else "nothing to hand over")
