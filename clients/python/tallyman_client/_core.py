"""What both clients are made of, apart from waiting: neither threads nor tasks live here."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tallyman_client._batcher import Batcher
from tallyman_client._calls import Calls
from tallyman_client._delivery import Delivery, Encoded
from tallyman_client._encoding import Event, encode_event, instant_text, require_compression
from tallyman_client._errors import ApiError, TallymanError, Unreachable
from tallyman_client._ids import new_id
from tallyman_client._options import Options, Retry
from tallyman_client._results import Receipt, Rejection, Stats
from tallyman_client._steps import Ambient, Steps

logger = logging.getLogger("tallyman_client")

OnRejected = Callable[[Rejection], None]
"""Called for each event the service refused, from the thread or task that sends."""

OnDropped = Callable[[Sequence[Mapping[str, Any]], TallymanError], None]
"""Called with events that were given up, and why. They may have arrived all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the owner wants to hear of. What a hook raises is logged."""

    on_rejected: OnRejected | None = None
    on_dropped: OnDropped | None = None


class Core:
    """Encodes, batches, counts, and says what to send."""

    def __init__(
        self, *, source: str | None, options: Options, hooks: Hooks, ambient: Ambient
    ) -> None:
        require_compression(options.compression)
        self.source = source
        self.options = options
        self.ambient = ambient
        self._hooks = hooks
        self.forget()

    def forget(self) -> None:
        """Begin anew with nothing recorded: what a forked child does with its parent's events."""
        self._counts_lock = threading.Lock()
        self._counts = Stats()
        self._overflowed = 0
        self.batcher = Batcher(self.options)
        self.calls = Calls(self.options, self.ambient, on_attempt=self._count_attempt)

    def encode(self, event: Event) -> bytes:
        """The event as it will be sent every time: id, time and source are fixed here."""
        now_ns = self.ambient.time_ns()
        complete = replace(
            event,
            id=new_id(now_ns) if event.id is None else event.id,
            time=instant_text(now_ns) if event.time is None else event.time,
            source=self._source(event),
        )
        return encode_event(complete, allow_floats=self.options.allow_floats)

    def encode_all(self, events: Iterable[Event | Mapping[str, Any]]) -> Iterator[bytes]:
        """Events to be sent in bulk, which bring their ids: a repeated call counts them once."""
        for given in events:
            event = given if isinstance(given, Event) else Event(**given)
            if event.id is None:
                raise ValueError("send_events needs an id in each event: see new_id()")
            yield self.encode(event)

    def stats(self) -> Stats:
        """The counts now."""
        with self._counts_lock:
            # The batcher's own count is read last: it is never behind what was settled of it.
            recorded = self._overflowed + self.batcher.added
            return replace(
                self._counts, recorded=recorded, pending_bytes=self.batcher.pending_bytes
            )

    def overflow(self) -> None:
        """Count an event that was dropped for want of room; say so the first time."""
        with self._counts_lock:
            self._overflowed += 1
            self._counts = replace(self._counts, dropped=self._counts.dropped + 1)
            first = self._overflowed == 1
        if first:
            logger.warning("the buffer is full: dropping events (see stats().dropped)")

    def delivery(self, events: Encoded) -> Delivery:
        """A batch on its way, counted and reported."""
        return Delivery(
            events,
            self.options,
            on_attempt=self._count_attempt,
            on_settled=self._settled,
        )

    def deliver(self, delivery: Delivery, retry: Retry | None = None) -> Steps[None]:
        """Send a batch; what is refused as a whole or not answered in all its time is dropped."""
        try:
            yield from delivery.steps(retry or self.options.delivery, self.ambient)
        except (ApiError, Unreachable) as error:
            self.drop(delivery.abandon(), error)

    def drop(self, events: Encoded, error: TallymanError) -> None:
        """Give events up: count them, say so."""
        if not events:
            return
        self.count(dropped=len(events))
        logger.error("gave up on %d events: %s", len(events), error)
        if self._hooks.on_dropped is not None:
            try:
                self._hooks.on_dropped([json.loads(event) for event in events], error)
            except Exception:
                logger.exception("on_dropped failed")

    def count(self, **more: int) -> None:
        """Add to the counts."""
        with self._counts_lock:
            added = {name: getattr(self._counts, name) + more[name] for name in more}
            self._counts = replace(self._counts, **added)

    def _source(self, event: Event) -> str:
        source = event.source or self.source
        if source is None:
            raise ValueError("an event needs a source: Tallyman(…, source=…) or record(source=…)")
        return source

    def _count_attempt(self, events: int, number: int) -> None:
        self.count(sent=events, retries=min(number, 1))

    def _settled(self, receipt: Receipt) -> None:
        self.count(
            accepted=receipt.accepted,
            duplicates=receipt.duplicates,
            rejected=len(receipt.rejected),
        )
        for rejection in receipt.rejected:
            self._rejected(rejection)

    def _rejected(self, rejection: Rejection) -> None:
        if self._hooks.on_rejected is None:
            logger.error("%s was rejected: %s", rejection.id, rejection.detail)
            return
        try:
            self._hooks.on_rejected(rejection)
        except Exception:
            logger.exception("on_rejected failed")
