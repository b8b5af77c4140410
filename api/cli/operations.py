"""`tallyman verify` and `rebuild`: ask the running service, or work on a data directory at rest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from api.cli.client import EXIT_REFUSED, ApiClient, Unreachable, errors_shown
from api.cli.output import console, table, write_json
from api.datadir import DataInUse
from catalog.errors import Unavailable

POLL_S = 0.2
SILENT_S_MAX = 60.0

Report = Mapping[str, Any]
State = Mapping[str, Any]


class Output(StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"


Data = Annotated[
    Path | None,
    typer.Option(help="Work on this data directory of a stopped service, not over HTTP."),
]
Format = Annotated[Output, typer.Option("--format", help="table or json")]


class InUse(Unreachable):
    """The directory cannot be worked on: a service runs there."""

    code = "data_in_use"


class ReaderFailed(Unavailable):
    """A store does not come level because its reader fails."""

    code = "reader_failed"


def verify_command(data: Data = None, format_: Format = Output.TABLE) -> None:
    """Compare everything derived with the log, and the log with its manifests.

    Exit code 0: no difference. 1: the first one is named. 2: it could not be asked.
    """
    with errors_shown():
        report = _verify_service() if data is None else _verify_data(data)
    if format_ is Output.JSON:
        write_json(report, None)
    else:
        show_report(console(), report)
    if not report["ok"]:
        raise typer.Exit(EXIT_REFUSED)


def _verify_service() -> Report:
    with ApiClient.from_environment() as client:
        report: Report = client.post("/v1/admin/verify")
    return report


def _verify_data(data: Path) -> Report:
    from api.wiring.offline import offline  # noqa: PLC0415  (opens engines)

    with at_rest(), offline(data) as opened, _bar() as progress:
        task = progress.add_task("records compared")
        report = opened.verify(lambda records: progress.advance(task, records))
    return report.as_json()


def show_report(to: Console, report: Report) -> None:
    """Print every check, and the first difference in words."""
    rows = [
        (check["check"], check["store"], check["node"] or "", check["status"], escape(said))
        for check in report["checks"]
        for said in [check["detail"]]
    ]
    to.print(table(("check", "store", "node", "status", ""), rows))
    if report["ok"]:
        to.print(f"[green]No difference[/green] in {len(rows)} checks.")
        return
    bad = next(check for check in report["checks"] if check["status"] != "ok")
    place = [("check", bad["check"]), ("store", bad["store"]), ("node", bad["node"])]
    place.append(("seq", (bad["first_difference"] or {}).get("seq")))
    named = ", ".join(f"{name} {value}" for name, value in place if value is not None)
    word = "First difference" if bad["first_difference"] else "Could not be made"
    to.print(f"[red]{word}[/red]: {named}: {escape(bad['detail'])}", soft_wrap=True)


def rebuild_command(
    stores: Annotated[str, typer.Argument(help="Of clickhouse,facts,ledger; commas between.")],
    data: Data = None,
) -> None:
    """Drop what was derived and replay the log into it. The log itself is never touched."""
    names = [name.strip() for name in stores.split(",") if name.strip()]
    with errors_shown():
        done = _rebuild_service(names) if data is None else _rebuild_data(names, data)
    for state in done:
        console().print(f"{state['store']}: level with the log, {state['durable']:,} records")


def _rebuild_service(names: Sequence[str]) -> list[State]:
    with ApiClient.from_environment() as client, _bar() as progress:
        moved = _Moved(progress)
        answer = client.post("/v1/admin/rebuild", {"stores": list(dict.fromkeys(names))})
        while True:
            states = [state for state in answer["stores"] if state["store"] in names]
            for state in states:
                moved(state)
            if all(state["level"] for state in states):
                return states
            moved.give_up_on(states)
            time.sleep(POLL_S)
            answer = client.get("/v1/admin/rebuild")


def _rebuild_data(names: Sequence[str], data: Path) -> list[State]:
    from dataclasses import asdict  # noqa: PLC0415

    from api.rebuild import rebuild  # noqa: PLC0415
    from api.wiring.offline import offline  # noqa: PLC0415  (opens engines)

    with at_rest(), offline(data) as opened, _bar() as progress:
        stores = opened.rebuildable()
        kept = [name for name in names if name != "ledger" or name in stores]
        if len(kept) < len(names):
            progress.console.print(
                "ledger: the private one lives in memory and is rebuilt whenever the service starts"
            )
        if names and not kept:
            return []
        moved = _Moved(progress)
        return [asdict(s) for s in rebuild(kept, stores, report=lambda s: moved(asdict(s)))]


class _Moved:
    """Shows how far each store is, and notices when none has moved for a minute."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._seen: dict[str, int] = {}
        self._moved_s = time.monotonic()

    def __call__(self, state: State) -> None:
        name, applied = state["store"], state["applied"]
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(f"replaying into {name}")
        if self._seen.get(name) != applied:
            self._seen[name], self._moved_s = applied, time.monotonic()
        self._progress.update(self._tasks[name], completed=applied, total=state["durable"])

    def give_up_on(self, states: Sequence[State]) -> None:
        """Stop waiting where waiting is no use.

        Raises:
            ReaderFailed: nothing moved for a minute, and a reader says why.
        """
        failures = [f"{s['store']}: {s['failure']}" for s in states if s["failure"]]
        if failures and time.monotonic() - self._moved_s > SILENT_S_MAX:
            raise ReaderFailed("the replay goes on by itself, but is stuck: " + "; ".join(failures))


@contextmanager
def at_rest() -> Iterator[None]:
    """Around work on a directory at rest: a service that runs there is one clear sentence."""
    try:
        yield
    except DataInUse as error:
        raise InUse(f"{error.detail}; leave --data out to ask that service") from error


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # On stderr, and gone at the end: what is printed stays fit for a pipe.
    shown = Console(stderr=True)
    return Progress(*columns, TimeElapsedColumn(), console=shown, transient=True)
