"""``python -m bench``: choose areas or rows, measure, write ``bench/RESULTS.md``."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from bench import report
from bench.gate import BenchFailed
from bench.machine import require_disk
from bench.registry import Context, Row, rows

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

DEFAULT_CACHE = Path.home() / ".cache" / "tallyman-bench"
Wanted = Annotated[list[str] | None, typer.Argument(help="Areas or rows; all when none is named.")]


@app.command("list")
def list_rows(wanted: Wanted = None) -> None:
    """What there is to measure."""
    for row in rows(wanted or ()):
        print(f"{row.key:34} {row.title}; against {row.against}")


@app.command()
def run(
    wanted: Wanted = None,
    *,
    quick: Annotated[bool, typer.Option(help="A minute a row; not for publishing.")] = False,
    rounds: Annotated[int, typer.Option(help="Rounds of a pair; 0: as the size says.")] = 0,
    scratch: Annotated[Path | None, typer.Option(help="On the disk to be measured.")] = None,
    cache: Annotated[Path, typer.Option(help="Where built inputs are kept.")] = DEFAULT_CACHE,
    core: Annotated[int, typer.Option(help="The core of what is measured.")] = 0,
    load_core: Annotated[int, typer.Option(help="The core of the load generator.")] = 1,
    profile: Annotated[Path | None, typer.Option(help="Sample what is measured into DIR.")] = None,
    write: Annotated[bool, typer.Option(help="Keep the results and write the page.")] = True,
) -> None:
    """Measure; ends with 1 if a row failed."""
    failed = []
    for row in rows(wanted or ()):
        directory = Path(tempfile.mkdtemp(prefix="tmb-", dir=scratch))
        context = Context(
            scratch=directory,
            cache=cache,
            core=core,
            load_core=load_core,
            rounds=rounds or (5 if quick else 9),
            quick=quick,
            profile=profile and profile / f"{row.key.replace('/', '-')}.folded",
        )
        try:
            require_disk(directory)
            _measure(row, context, write=write)
        except BenchFailed as error:
            print(f"FAILED {row.key}: {error}")
            failed.append(row.key)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    if write:
        report.PAGE.write_text(report.render(rows()))
    raise typer.Exit(1 if failed else 0)


@app.command()
def render() -> None:
    """Write the page again from the kept results."""
    report.PAGE.write_text(report.render(rows()))


def _measure(row: Row, context: Context, *, write: bool) -> None:
    print(f"{row.key}: {row.title}")
    began_s = time.monotonic()
    entry = report.entry_of(row, row.measure(context), context, took_s=time.monotonic() - began_s)
    print(report.summary(entry))
    if write:
        report.keep(entry)


if __name__ == "__main__":
    app()
