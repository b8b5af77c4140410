"""Events on their way: one batch, split where it is too large, until each has an outcome."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tallyman_client._encoding import batch_body, pack
from tallyman_client._errors import TooLarge
from tallyman_client._options import Options, Retry
from tallyman_client._results import Receipt, Rejection
from tallyman_client._steps import Ambient, Request, Steps, exchange

EVENTS_PATH = "/v1/events"
BATCH_TYPE = "application/cloudevents-batch+json"

Encoded = Sequence[bytes]
OnAttempt = Callable[[int, int], None]
OnSettled = Callable[[Receipt], None]


class Delivery:
    """One batch. ``steps`` sends it; ``remaining`` is what has no outcome yet.

    ``on_attempt`` is told (events, number of the attempt) before each request, ``on_settled`` the
    outcome of each part. Once it is abandoned, an answer that still comes changes nothing.
    """

    def __init__(
        self,
        events: Encoded,
        options: Options,
        *,
        first_index: int = 0,
        on_attempt: OnAttempt,
        on_settled: OnSettled | None = None,
    ) -> None:
        self._parts: deque[Encoded] = deque([events] if events else [])
        self._options = options
        self._index = first_index
        self._on_attempt = on_attempt
        self._on_settled = on_settled
        self._lock = threading.Lock()
        self.receipt = Receipt()

    def steps(self, retry: Retry, ambient: Ambient) -> Steps[Receipt]:
        """Send every part in turn; a 413 halves it, and of a single event it is a rejection.

        Raises:
            ApiError, Unreachable: see :func:`exchange`; what is settled stays settled.
        """
        while self._parts:
            part = self._parts[0]

            def started(number: int, part: Encoded = part) -> None:
                self._on_attempt(len(part), number)

            request = events_request(part, self._options)
            try:
                receipt = yield from exchange(
                    request, retry, ambient, read=reading(len(part)), on_attempt=started
                )
            except TooLarge as error:
                if len(part) > 1:
                    self._replace(part, _halves(part))
                else:
                    refused = Rejection(index=0, id=None, code="too_large", detail=str(error))
                    self._settle(part, Receipt(rejected=(refused,)))
            else:
                self._settle(part, receipt)
        return self.receipt

    def remaining(self) -> tuple[bytes, ...]:
        """The events without an outcome, in order."""
        with self._lock:
            return tuple(event for part in self._parts for event in part)

    def abandon(self) -> tuple[bytes, ...]:
        """Give up on what remains; answers it."""
        with self._lock:
            remaining = tuple(event for part in self._parts for event in part)
            self._parts.clear()
            return remaining

    def _replace(self, part: Encoded, halves: Sequence[Encoded]) -> bool:
        """Put ``halves`` where ``part`` is, unless it was abandoned meanwhile."""
        with self._lock:
            if not self._parts or self._parts[0] is not part:
                return False
            self._parts.popleft()
            self._parts.extendleft(reversed(halves))
            return True

    def _settle(self, part: Encoded, receipt: Receipt) -> None:
        if not self._replace(part, ()):
            return
        rejected = tuple(self._described(part, each) for each in receipt.rejected)
        receipt = replace(receipt, rejected=rejected)
        self._index += len(part)
        self.receipt += receipt
        if self._on_settled is not None:
            self._on_settled(receipt)

    def _described(self, part: Encoded, rejection: Rejection) -> Rejection:
        event = json.loads(part[rejection.index])
        index = self._index + rejection.index
        return replace(rejection, index=index, id=event["id"], event=event)


def events_request(events: Encoded, options: Options) -> Request:
    """The request that posts encoded events."""
    content, encoding = pack(
        batch_body(events), compression=options.compression, bytes_min=options.compress_bytes_min
    )
    return Request(
        method="POST",
        path=EVENTS_PATH,
        content=content,
        content_type=BATCH_TYPE,
        content_encoding=encoding,
    )


def reading(received: int | None = None) -> Callable[[Any], Receipt]:
    """A reader of the answer to ``received`` events (None: however many they were).

    It raises ValueError where the answer does not account for them all.
    """

    def read(answer: Any) -> Receipt:
        receipt = Receipt(
            accepted=int(answer["accepted"]),
            duplicates=int(answer["duplicates"]),
            rejected=tuple(map(_rejection, answer["rejected"])),
        )
        if received is None:
            return receipt
        places = {each.index for each in receipt.rejected}
        if receipt.received != received or not places <= set(range(received)):
            raise ValueError(f"it accounts for {receipt.received} of {received} events")
        return receipt

    return read


def _rejection(row: Mapping[str, Any]) -> Rejection:
    return Rejection(
        index=int(row["index"]), id=row.get("id"), code=row["code"], detail=row.get("detail", "")
    )


def _halves(part: Encoded) -> tuple[Encoded, Encoded]:
    middle = len(part) // 2
    return part[:middle], part[middle:]
