"""How commands print: tables for people, formats for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from catalog.errors import InvalidRequest


class Output(StrEnum):
    """The forms a command's answer comes in."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


Format = Annotated[Output, typer.Option("--format", help="table, json, csv or parquet")]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file, not to the terminal.")
]


def write(content: bytes, output: Path | None) -> None:
    """To the file, or to standard output.

    Raises:
        InvalidRequest: the file cannot be written.
    """
    if output is None:
        typer.echo(content, nl=False)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise InvalidRequest(f"{output}: {error.strerror}") from error


def write_json(document: Any, output: Path | None) -> None:
    """Indented, one document."""
    write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n", output)


def money(amount: str) -> str:
    """``102116.80`` as ``102,116.80``: digits grouped, none added or lost."""
    sign = "-" if amount.startswith("-") else ""
    whole, dot, cents = amount.removeprefix("-").partition(".")
    return f"{sign}{int(whole):,}{dot}{cents}"


def heading(to: Console, text: str) -> None:
    """A line above a table; as the table's own title it would be folded to the table's width."""
    to.print(Text(text, style="italic"), soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose columns ending in ``>`` are right-aligned (the mark is not shown)."""
    shown = Table(header_style="bold")
    for column in columns:
        right = column.endswith(">")
        shown.add_column(
            column.removesuffix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for row in rows:
        shown.add_row(*row)
    return shown


def console() -> Console:
    """Standard output; wide enough for figures when it is not a terminal."""
    shown = Console()
    return shown if shown.is_terminal else Console(width=max(shown.width, 140))
