"""``python -m bench``: choose areas or rows, measure, write ``bench/RESULTS.md``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from bench import report
from bench.gate import BenchFailed
from bench.machine import Neighbours, require_disk
from bench.processes import die_with_parent, python
from bench.registry import Context, rows

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

DEFAULT_CACHE = Path.home() / ".cache" / "tallyman-bench"
PATHS = ("scratch", "cache", "profile")
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
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
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
            print(f"{row.key}: {row.title}", flush=True)
            entry = _in_a_child(row.key, context)
            print(report.summary(entry), flush=True)
            if write:
                report.keep(entry)
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


@app.command(hidden=True)
def measure(key: str, context_json: str, out: Path) -> None:
    """Measure one row and write its entry: what :func:`run` starts for each of them."""
    given = json.loads(context_json)
    paths = {name: Path(given[name]) for name in PATHS if given[name] is not None}
    context = Context(**{**given, **paths})
    (row,) = rows([key])
    began_s, neighbours = time.monotonic(), Neighbours()
    try:
        measured = row.measure(context)
    except BenchFailed as error:
        print(f"  {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    entry = report.entry_of(row, measured, context, took_s=time.monotonic() - began_s)
    entry["neighbours_cores"] = round(neighbours.cores(), 2)
    out.write_text(json.dumps(entry))


def _in_a_child(key: str, context: Context) -> report.Entry:
    """Measure one row in a process of its own: engines and affinities end with it.

    Raises:
        BenchFailed: it has no figure.
    """
    out = context.scratch.with_suffix(".json")
    given = {each.name: getattr(context, each.name) for each in fields(context)}
    del given["say"]
    argv = python("-m", "bench", "measure", key, json.dumps(given, default=str), str(out))
    try:
        done = subprocess.run(argv, check=False, preexec_fn=die_with_parent)
        if not out.exists():
            raise BenchFailed(f"it ended with {done.returncode}")
        entry: report.Entry = json.loads(out.read_text())
        return entry
    finally:
        out.unlink(missing_ok=True)


if __name__ == "__main__":
    app()
