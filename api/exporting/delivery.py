"""One delivery: the bytes of a run, the same at every attempt, handed to where they go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prometheus_client import Counter
from tenacity import RetryCallState, Retrying, wait_exponential_jitter

from catalog.clock import SECOND_US, Clock, Micros, to_rfc3339
from catalog.errors import DomainError
from invoicing.closed import ClosedLines
from outbound.addresses import Network
from outbound.destinations import Destination
from outbound.folders import Folders
from outbound.grammar import read_destination
from outbound.rendering import Rendered, render
from outbound.streams import Stream, read_batch
from outbound.webhooks import Courier, signed
from storage.sql.exports import ExportStore, Run, RunStatus

ATTEMPTS = Counter("tallyman_export_attempts_total", "Deliveries tried.", ["export", "outcome"])

ERROR_CHARACTERS_MAX = 500


class ExportChanged(DomainError):
    """What would be sent again is not what was sent: nothing was."""

    code = "export_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how soon a delivery is tried again; then it is dead until it is replayed."""

    attempts_max: int = 12
    backoff_s_min: float = 5
    backoff_s_max: float = 3_600

    def wait_us(self, attempts: int) -> int:
        """Until the next attempt after so many failed ones: twice as long each time, jittered."""
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = attempts
        wait = wait_exponential_jitter(
            initial=self.backoff_s_min, max=self.backoff_s_max, jitter=self.backoff_s_min
        )
        return int(wait(state) * SECOND_US)


class Deliveries:
    """Makes the bytes of a run and hands them over. Thread-safe; two threads may not try one run.

    Args:
        store: where runs are kept.
        closed: what is read.
        courier: sends webhooks.
        folders: writes files.
        clock: dates attempts.
        patience: with what fails.
    """

    def __init__(
        self,
        *,
        store: ExportStore,
        closed: ClosedLines,
        courier: Courier,
        folders: Folders,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        self._store = store
        self._closed = closed
        self._courier = courier
        self._folders = folders
        self._clock = clock
        self._patience = patience or Patience()

    @property
    def allowed(self) -> tuple[Network, ...]:
        """The networks inside that webhooks may reach."""
        return self._courier.allowed

    def attempt(self, run: Run) -> Run:
        """Try a run once and record what became of it; never raises for what may pass."""
        try:
            done = self._delivered(run)
        except DomainError as error:
            done = self._failed(run, error.detail)
        outcome = "delivered" if done.status is not RunStatus.PENDING else "failed"
        ATTEMPTS.labels(run.export, "dead" if done.status is RunStatus.DEAD else outcome).inc()
        return self._store.record(done)

    def destination(self, export: str, *, revision: int | None = None) -> Destination:
        """A destination as declared, now or in an earlier revision."""
        body = self._store.get(export, revision=revision).body
        return read_destination(export, body, allowed=self.allowed)

    def _delivered(self, run: Run) -> Run:
        destination = self.destination(run.export, revision=run.revision)
        rendered = self._rendered(destination, run)
        if run.checksum is not None and run.checksum != rendered.checksum:
            raise ExportChanged(
                f"run {run.number} of {run.export} had the checksum {run.checksum}, "
                f"now it would have {rendered.checksum}"
            )
        known = replace(
            run,
            rows=rendered.rows,
            bytes=len(rendered.content),
            checksum=rendered.checksum,
            attempts=run.attempts + 1,
            next_attempt_at=None,
            error=None,
        )
        if not rendered.rows:
            return replace(known, status=RunStatus.EMPTY)
        self._store.record(replace(known, attempts=run.attempts, next_attempt_at=self._now()))
        self._send(destination, run, rendered)
        return replace(
            known,
            status=RunStatus.DELIVERED,
            deliveries=run.deliveries + 1,
            delivered_at=self._now(),
        )

    def _rendered(self, destination: Destination, run: Run) -> Rendered:
        stream = Stream(self._store.get(run.export, revision=run.revision).stream)
        batch = read_batch(
            self._closed, stream, after=run.after, limit=run.upto - run.after, upto=run.upto
        )
        envelope = {
            "type": f"export.{destination.document}",
            "timestamp": to_rfc3339(run.created_at),
            "export": run.export,
            "run": run.number,
            "after": run.after,
            "upto": run.upto,
        }
        return render(destination, batch, envelope)

    def _send(self, destination: Destination, run: Run, rendered: Rendered) -> None:
        name = delivery_id(run)
        if destination.folder is not None:
            self._folders.write(destination.folder, f"{name}.{rendered.suffix}", rendered.content)
            return
        assert destination.url is not None, "the grammar lets no other kind pass"
        # Secrets are those of now: a rotation must not leave old runs signed with an old one.
        current = self.destination(run.export)
        headers = signed(rendered.content, id=name, at=self._now(), secrets=current.secrets)
        headers["content-type"] = rendered.media_type
        self._courier.post(current.url or destination.url, rendered.content, headers)

    def _failed(self, run: Run, detail: str) -> Run:
        current = self._store.run(run.export, run.number)  # it may know its checksum by now
        attempts = run.attempts + 1
        failed = replace(
            current,
            attempts=attempts,
            error=detail[:ERROR_CHARACTERS_MAX],
            next_attempt_at=Micros(self._now() + self._patience.wait_us(attempts)),
        )
        if attempts < self._patience.attempts_max:
            return failed
        return replace(failed, status=RunStatus.DEAD, next_attempt_at=None)

    def _now(self) -> Micros:
        return self._clock.now_us()


def delivery_id(run: Run) -> str:
    """The stable id of what a run delivers: a webhook's id, a file's name."""
    return f"{run.export}-{run.number:08d}"
