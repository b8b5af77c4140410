"""Destinations as a service: declare, run, look, replay."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.exporting.delivery import Deliveries, delivery_id
from catalog.clock import to_rfc3339
from catalog.errors import Conflict, DomainError, NotFound
from outbound.destinations import Destination, Every, Start
from outbound.grammar import document_of, read_destination, write_destination
from outbound.rendering import stream_of
from outbound.webhooks import SECRET_PREFIX
from storage.sql.exports import Declared, ExportStore, Run, RunStatus

RUNS_MAX = 100
"""Runs made by one request or turn; what is left waits for the next."""

BATCH_FILES, BATCH_WEBHOOK = 100_000, 500
SECRET_SHOWN = 6


class ExportUndelivered(DomainError):
    """The destination did not take a run; it is recorded and will be tried again."""

    code = "export_undelivered"

    def __init__(self, detail: str, *, runs: list[dict[str, Any]]) -> None:
        super().__init__(detail)
        self.members = {"runs": runs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What one turn did: the runs it tried, and whether more positions are waiting."""

    runs: tuple[Run, ...]
    more: bool


class Exports:
    """The destinations of one deployment. Thread-safe; every call blocks."""

    def __init__(self, store: ExportStore, deliveries: Deliveries) -> None:
        self._store = store
        self._deliveries = deliveries
        self.stopping = threading.Event()
        """Set when the service stops: a turn ends after the run it is at."""
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def put(self, export: str, tree: object, *, actor: str | None) -> tuple[dict[str, Any], bool]:
        """Declare a destination, or what it is from now on. Answers its view, and if it is new.

        Raises:
            InvalidDocument: naming every mistake.
            StreamFixed: its positions would count something else.
        """
        held = self._secrets(export)
        found = read_destination(export, tree, allowed=self._deliveries.allowed, secrets=held)
        declared, created = self._store.declare(
            export,
            write_destination(found),
            stream=stream_of(found),
            from_now=found.start is Start.NOW,
            actor=actor,
        )
        return self._view(declared), created

    def create(self, export: str, tree: object, *, actor: str | None) -> dict[str, Any]:
        """Declare a destination that must be new.

        Raises:
            Conflict: there is one by that id.
        """
        if export in self._store.names():
            raise Conflict(f"there is an export {export} already")
        return self.put(export, tree, actor=actor)[0]

    def get(self, export: str) -> dict[str, Any]:
        """One destination in force: its declaration, position and runs by status.

        Raises:
            NotFound: there is none.
        """
        return self._view(self._store.get(export))

    def all(self) -> list[dict[str, Any]]:
        """Every destination in force, by id."""
        return [self._view(declared) for declared in self._store.all()]

    def retire(self, export: str, *, actor: str | None) -> None:
        """End a destination; its runs stay on record.

        Raises:
            NotFound: there is none.
        """
        self._store.get(export)
        self._store.retire(export, actor=actor)

    def run(self, export: str, *, actor: str | None) -> dict[str, Any]:
        """Hand over everything there is now.

        Raises:
            NotFound: there is no such destination.
            ExportUndelivered: a run was not taken; the answer names the runs.
        """
        ran = self.turn(export, upto=None, actor=actor)
        shown = [run_view(run) for run in ran.runs]
        failed = [run for run in ran.runs if run.status in {RunStatus.PENDING, RunStatus.DEAD}]
        if failed:
            raise ExportUndelivered(f"{export}: {failed[0].error}", runs=shown)
        return {"runs": shown, "position": self._store.get(export).position, "more": ran.more}

    def replay(self, export: str, number: int, *, actor: str | None = None) -> dict[str, Any]:
        """Deliver a run again, the same bytes under the same id.

        Raises:
            NotFound: there is no such run, or its destination is gone.
            ExportUndelivered: it was not taken.
        """
        self._store.get(export)
        with self._turns[export]:
            run = self._deliveries.attempt(self._store.again(export, number, actor=actor))
        shown = run_view(run)
        if run.status in {RunStatus.PENDING, RunStatus.DEAD}:
            raise ExportUndelivered(f"{export}: {run.error}", runs=[shown])
        return shown

    def runs(self, export: str, *, before: int | None, limit: int) -> list[dict[str, Any]]:
        """A destination's runs, the newest first.

        Raises:
            NotFound: there never was one.
        """
        self._store.get(export, revision=1)
        return [run_view(run) for run in self._store.runs(export, before=before, limit=limit)]

    def turn(self, export: str, *, upto: int | None, actor: str | None = None) -> Ran:
        """Try what is due, then make runs of what is new (up to a position, or all) and try them.

        One turn of a destination at a time; a run that fails waits, the ones after it go on.
        """
        with self._turns[export]:
            tried = [
                self._deliveries.attempt(run)
                for run in self._store.due(export)
                if not self.stopping.is_set()
            ]
            declared = self._store.get(export)
            end = self._store.head(declared.stream) if upto is None else upto
            batch = self._batch(self._deliveries.destination(export))
            after = declared.position
            while after < end and len(tried) < RUNS_MAX and not self.stopping.is_set():
                last = min(after + batch, end)
                run = self._store.plan(
                    export, after=after, upto=last, revision=declared.revision, actor=actor
                )
                tried.append(self._deliveries.attempt(run))
                after = last
        return Ran(runs=tuple(tried), more=after < end)

    def scheduled(self, export: str) -> tuple[Destination, int]:
        """A destination, and how far it may go by itself."""
        declared = self._store.get(export)
        found = self._deliveries.destination(export)
        match found.schedule.every:
            case Every.MANUAL:
                return found, declared.position
            case Every.CLOSE:
                return found, max(declared.position, self._store.closed_upto(declared.stream))
            case None:
                return found, self._store.head(declared.stream)

    def names(self) -> list[str]:
        """The destinations in force."""
        return self._store.names()

    def _batch(self, found: Destination) -> int:
        document, _ = document_of(found)
        usual = BATCH_WEBHOOK if found.url is not None else BATCH_FILES
        return min(found.batch or usual, document.batch_max)

    def _secrets(self, export: str) -> tuple[str, ...]:
        try:
            held = self._store.get(export).body.get("secrets", ())
        except NotFound:
            return ()
        return tuple(held) if isinstance(held, list) else ()

    def _view(self, declared: Declared) -> dict[str, Any]:
        return {
            "id": declared.export,
            "revision": declared.revision,
            **without_secrets(declared.body),
            "position": declared.position,
            "waiting": max(0, self._store.head(declared.stream) - declared.position),
            "runs": self._store.counts(declared.export),
        }


def without_secrets(body: Mapping[str, object]) -> dict[str, object]:
    """A declaration as it may be shown: of secrets only how each one begins."""
    secrets = body.get("secrets")
    if not isinstance(secrets, list):
        return dict(body)
    shown = [str(secret)[: len(SECRET_PREFIX) + SECRET_SHOWN] + "…" for secret in secrets]
    return dict(body) | {"secrets": shown}


def run_view(run: Run) -> dict[str, Any]:
    """A run as the API shows it."""
    return {
        "id": delivery_id(run),
        "number": run.number,
        "revision": run.revision,
        "after": run.after,
        "upto": run.upto,
        "status": run.status.value,
        "rows": run.rows,
        "bytes": run.bytes,
        "checksum": run.checksum,
        "attempts": run.attempts,
        "deliveries": run.deliveries,
        "error": run.error,
        "created_at": to_rfc3339(run.created_at),
        "next_attempt_at": _instant(run.next_attempt_at),
        "delivered_at": _instant(run.delivered_at),
    }


def _instant(instant: int | None) -> str | None:
    return None if instant is None else to_rfc3339(instant)
