"""The client for threads."""

from __future__ import annotations

import atexit
import ssl
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from tallyman_client._calls import ARROW, Use
from tallyman_client._core import Core, Hooks, OnDropped, OnRejected
from tallyman_client._encoding import Data, Event
from tallyman_client._forks import renew_in_children
from tallyman_client._options import Options
from tallyman_client._outbox import Outbox
from tallyman_client._results import (
    Decision,
    Entitlement,
    Items,
    Receipt,
    Reservation,
    Stats,
)
from tallyman_client._steps import Ambient
from tallyman_client._wire import Address, Wire

FLUSH_S_MAX = 30.0
DEFAULTS = Options()


class Tallyman:
    """A client of one Tallyman service, for any number of threads.

    Events recorded are sent from a thread of its own; close it (or use it as a context manager) to
    have them all sent. At the end of the process, ``sys.exit`` and unhandled exceptions included,
    it closes itself; a process that is killed loses what it had not sent.

    ``source`` says where events come from; with an id it is an event's identity. ``verify`` is an
    SSL context or whether to check certificates. A forked child begins with an empty buffer and
    connections of its own.
    """

    def __init__(  # noqa: PLR0913 - all there is to say, most of it defaulted
        self,
        url: str,
        key: str | None = None,
        *,
        source: str | None = None,
        options: Options = DEFAULTS,
        on_rejected: OnRejected | None = None,
        on_dropped: OnDropped | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        hooks = Hooks(on_rejected=on_rejected, on_dropped=on_dropped)
        self._address = Address(url=url, key=key, verify=verify)
        self._options = options
        self._core = Core(source=source, options=options, hooks=hooks, ambient=Ambient())
        self._wire = Wire(self._address, options)
        self._outbox = Outbox(self._core, self._wire)
        renew_in_children(self)
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def record(
        self,
        *,
        type: str,  # noqa: A002 - the names CloudEvents has
        subject: str,
        data: Data | None = None,
        id: str | None = None,  # noqa: A002
        time: datetime | str | None = None,
        source: str | None = None,
    ) -> None:
        """Record one usage event; returns at once, it is sent in the background.

        The event is complete when this returns: what it was given may change afterwards. ``id``
        defaults to a new one, ``time`` to now. Integers stay integers, Decimals go as strings.

        Raises:
            BufferFull: there is no room for it (see Options.overflow).
            TypeError: ``data`` holds a float, or something that JSON cannot say exactly.
            ValueError: a field is missing or too long.
            Closed: the client is closed.
        """
        event = Event(type=type, subject=subject, data=data or {}, id=id, time=time, source=source)
        self._outbox.put(self._core.encode(event))

    def flush(self, timeout_s: float | None = FLUSH_S_MAX) -> None:
        """Wait until all recorded so far is delivered, refused or given up.

        Raises:
            FlushTimeout: not in time; what is left stays on its way.
        """
        self._outbox.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Send what is recorded, then stop. What is left after ``timeout_s`` is dropped.

        The default is Options.close_s_max. Closing again does nothing.
        """
        if self._outbox.is_closed:
            return
        atexit.unregister(self.close)
        self._outbox.close(self._options.close_s_max if timeout_s is None else timeout_s)
        self._wire.close()

    def stats(self) -> Stats:
        """What happened to recorded events so far."""
        return self._core.stats()

    def send_events(self, events: Iterable[Event | Mapping[str, Any]]) -> Receipt:
        """Send many events now, in batches, and wait for their outcomes; skips the buffer.

        Each needs an ``id``: after an error the call may be repeated, and everything counts once.

        Raises:
            ApiError, Unreachable: a batch was refused or not answered; earlier ones are in.
            TypeError, ValueError: an event is not complete or not exact; earlier batches are in.
        """
        return self._wire.run(self._core.calls.send_events(self._core.encode_all(events)))

    def post_arrow(self, content: bytes, *, content_type: str = ARROW) -> Receipt:
        """Post an Arrow stream (or, by ``content_type=PARQUET``, a Parquet file) of events.

        Columns: id, source, type, subject, time?, and ``data`` as struct or JSON text, or
        ``data.*``.

        Raises:
            ApiError, Unreachable: it was refused, or not answered; it may be repeated.
        """
        return self._wire.run(self._core.calls.post_columns(content, content_type=content_type))

    def check(self, customer: str, items: Items) -> Decision:
        """Whether ``customer`` may use ``items`` now: all of them. Takes nothing, never hangs.

        Raises:
            ApiError, Unreachable: no answer within Options.check (1 s).
        """
        return self.check_many([(customer, items)])[0]

    def check_many(self, checks: Sequence[tuple[str, Items]]) -> list[Decision]:
        """Many checks in one request, answered in order.

        Raises:
            ApiError, Unreachable: no answer within Options.check (1 s).
        """
        return self._wire.run(self._core.calls.check(checks))

    def consume(
        self,
        customer: str,
        items: Items,
        *,
        key: str | None = None,
        subject: str | None = None,
        data: Data | None = None,
    ) -> Decision:
        """Use ``items`` now, all or none; when it is allowed it is durable.

        ``key`` makes it count once: one is made if none is given and used for every retry. The
        decision names it, and so does the error: repeat the call with it.

        Raises:
            ApiError, Unreachable: no answer within Options.consume (3 s).
        """
        use = Use(customer=customer, items=items, key=key, subject=subject, data=data)
        return self._wire.run(self._core.calls.consume(use))

    def reserve(
        self,
        customer: str,
        items: Items,
        *,
        ttl_s: int = 60,
        key: str | None = None,
        subject: str | None = None,
    ) -> Reservation:
        """Hold ``items`` for ``ttl_s``, all or none, until settled or released.

        Raises:
            ApiError, Unreachable: as for consume.
        """
        use = Use(customer=customer, items=items, key=key, subject=subject, ttl_s=ttl_s)
        return self._wire.run(self._core.calls.reserve(use))

    def settle(
        self,
        customer: str,
        reservation: str,
        items: Items | None = None,
        *,
        data: Data | None = None,
    ) -> Decision:
        """Turn a reservation into usage: of ``items``, or of all that it holds.

        Raises:
            Conflict: it has expired (``reservation_expired``).
            ApiError, Unreachable: as for consume; repeating it counts once.
        """
        steps = self._core.calls.settle(customer, reservation, items=items, data=data)
        return self._wire.run(steps)

    def release(self, customer: str, reservation: str) -> None:
        """Give a reservation back unused.

        Raises:
            ApiError, Unreachable: as for consume.
        """
        self._wire.run(self._core.calls.release(customer, reservation))

    def entitlements(self, customer: str) -> list[Entitlement]:
        """Where ``customer`` stands with every feature."""
        return self._wire.run(self._core.calls.entitlements(customer))

    def entitlement(self, customer: str, feature: str) -> Entitlement:
        """Where ``customer`` stands with one feature."""
        return self._wire.run(self._core.calls.entitlement(customer, feature))

    def totals(
        self,
        period: str,
        *,
        customer: str | None = None,
        contract: str | None = None,
        as_of: datetime | str | None = None,
        zeros: bool | None = None,
    ) -> dict[str, Any]:
        """The rated lines of a period (``2026-01``, ``2026-Q1``, …), all of them, as the API says.

        ``{"period", "as_of", "watermark", "engine", "checksum", "items": […]}``; amounts and
        quantities are decimals as strings.
        """
        filters = {"customer": customer, "contract": contract, "as_of": as_of, "zeros": zeros}
        return self._wire.run(self._core.calls.totals(period, filters))

    def after_fork(self) -> None:
        """Begin anew: the system calls this in a forked child."""
        self._core.forget()
        self._wire = Wire(self._address, self._options)
        self._outbox = Outbox(self._core, self._wire, closed=self._outbox.is_closed)
