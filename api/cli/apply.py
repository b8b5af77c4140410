"""`tallyman apply FILE…`: the catalog as reviewed files, with a preview of what they change."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from api.cli.client import EXIT_REFUSED, ApiClient, ApiProblem, errors_shown
from api.cli.diff import FieldChange, field_changes
from api.cli.documents import Documents, load_documents

PATH = "/v1/catalog"
# Where the document stands in the body that is posted; error pointers begin with it.
DOCUMENT_POINTER = "/document"
OPEN_LINES_COUNTED_MAX = 10_000
"""The service counts no further: that many or more."""

FIELDS_SHOWN_MAX = 20
SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "retire": ("-", "red")}
COUNTED = (
    ("create", "created"),
    ("update", "updated"),
    ("retire", "retired"),
    ("unchanged", "unchanged"),
)


class Output(StrEnum):
    """How the outcome is written."""

    TEXT = "text"
    JSON = "json"


def apply_command(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="YAML files of one catalog.")
    ],
    dry_run: Annotated[bool, typer.Option(help="Show what would change, and stop.")] = False,
    prune: Annotated[
        bool, typer.Option(help="Also retire every object that no file names.")
    ] = False,
    yes: Annotated[bool, typer.Option(help="Do not ask before retiring.")] = False,
    output: Annotated[Output, typer.Option("--format", help="How to print it.")] = Output.TEXT,
) -> None:
    """Make the catalog what the files say: all of it, or nothing where anything is wrong."""
    console, complaints = Console(), Console(stderr=True)
    with errors_shown(complaints):
        documents = load_documents(files)
        with ApiClient.from_environment() as client:
            try:
                reply = send_document(client, documents, dry_run=dry_run, prune=prune, yes=yes)
            except ApiProblem as problem:
                if not problem.errors:
                    raise
                show_mistakes(problem, documents, complaints, under=DOCUMENT_POINTER)
                raise typer.Exit(EXIT_REFUSED) from problem
    if output is Output.JSON:
        typer.echo(json.dumps(reply, ensure_ascii=False, indent=2))
    else:
        show_changes(reply, console, dry_run=dry_run)


def send_document(
    client: ApiClient, documents: Documents, *, dry_run: bool, prune: bool, yes: bool
) -> Any:
    """Post the document; before retiring anything, show what would go and pin the revision."""
    body: dict[str, Any] = {"document": documents.tree, "prune": prune, "dry_run": dry_run}
    if prune and not dry_run:
        preview = client.post(PATH, {**body, "dry_run": True})
        going = [change for change in preview["changes"] if change["action"] == "retire"]
        if going:
            _confirm(going, yes=yes)
        # What was shown is what is done: a catalog that changed in between is refused.
        body["expected_revision"] = preview["revision"]
    return client.post(PATH, body)


def _confirm(going: list[Mapping[str, Any]], *, yes: bool) -> None:
    """List what is about to be retired, and ask when a person is there to answer."""
    complaints = Console(stderr=True)
    complaints.print(f"--prune retires {len(going)}:", style="bold")
    for change in going:
        complaints.print(Text(f"  - {change['kind']} {change['id']}", style="red"))
    if not yes and sys.stdin.isatty():
        typer.confirm("Retire them?", abort=True, err=True)


def show_mistakes(
    problem: ApiProblem, documents: Documents, console: Console, *, under: str
) -> None:
    """One line a mistake, ``file:line: field: detail``, as editors and CI systems link them.

    ``under`` is where the files' document stands in the body that was sent.
    """
    for error in problem.errors:
        pointer = error.pointer.removeprefix(under)
        place = documents.place(pointer) if _is_stated(pointer, documents) else None
        field = ".".join(_unescaped(part) for part in pointer.split("/")[1:])
        parts = (str(place) if place else "", field, error.detail)
        console.print(Text(": ".join(part for part in parts if part)), soft_wrap=True)
    console.print(Text(f"nothing was changed: {problem.detail}", style="red"), soft_wrap=True)


def _is_stated(pointer: str, documents: Documents) -> bool:
    """Whether the object around ``pointer`` is in the files: others may be at fault too."""
    steps = pointer.split("/")
    return len(steps) <= 2 or "/".join(steps[:3]) in documents.places


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def show_changes(reply: Mapping[str, Any], console: Console, *, dry_run: bool) -> None:
    """Print a reply of ``POST /v1/catalog``: each change, the warnings, the sums."""
    for change in reply["changes"]:
        if change["action"] in SIGNS:
            _show_change(change, console)
    for warning in reply["warnings"]:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    counts = Counter(change["action"] for change in reply["changes"])
    counted = [f"{counts[action]} {word}" for action, word in COUNTED if counts[action]]
    summary = ", ".join(counted) or "nothing to do"
    if reply.get("open_lines"):
        will = "would" if dry_run else "will"
        count = reply["open_lines"]
        said = "1 open line" if count == 1 else f"{count} open lines"
        said += " or more" if count >= OPEN_LINES_COUNTED_MAX else ""
        summary += f"; {said} {will} be re-rated"
    console.print(Text(f"{summary}{' (dry run: nothing was changed)' if dry_run else ''}"))


def _show_change(change: Mapping[str, Any], console: Console) -> None:
    sign, style = SIGNS[change["action"]]
    console.print(Text(f"{sign} {change['kind']} {change['id']}", style=style), soft_wrap=True)
    if change["action"] != "update":
        return
    fields = field_changes(change["before"], change["after"])
    for field in fields[:FIELDS_SHOWN_MAX]:
        console.print(_field_line(field), soft_wrap=True)
    if len(fields) > FIELDS_SHOWN_MAX:
        console.print(f"    … and {len(fields) - FIELDS_SHOWN_MAX} more fields", style="dim")


def _field_line(field: FieldChange) -> Text:
    line = Text(f"    {field.path}  ")
    line.append(field.before if field.before is not None else "(not set)", style="red")
    line.append(" → ")
    line.append(field.after if field.after is not None else "(not set)", style="green")
    return line
