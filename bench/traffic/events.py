"""Bodies as ``tallyman_client`` sends them, written much faster than by it (a test compares)."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import Any

from bench.processes import REPOSITORY
from bench.traffic.business import EVENT_TYPE, MODELS, customer

sys.path.append(str(REPOSITORY / "clients" / "python"))  # it may not be installed
from tallyman_client import Options
from tallyman_client._encoding import pack

OPTIONS = Options()
CONTENT_TYPE = "application/cloudevents-batch+json"
SOURCE = "load"
_EVENT = (
    '{{"specversion":"1.0","id":"{id}","source":"{source}","type":"{type}","subject":"{subject}",'
    '"time":"{time}","data":{{"run":"{run}","model":"{model}","tokens":{tokens}}}}}'
)


def event_text(*, id: str, subject: str, time: str, run: str, model: str, tokens: int) -> str:  # noqa: A002
    """One event, byte by byte what the client makes of it."""
    return _EVENT.format(
        id=id,
        source=SOURCE,
        type=EVENT_TYPE,
        subject=subject,
        time=time,
        run=run,
        model=model,
        tokens=tokens,
    )


def batch_body(count: int, *, run: str, customers: int, rng: Any) -> bytes:
    """``count`` new events that happen now, as one body. ``rng`` is ``random`` or one like it."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    prefix = os.urandom(9).hex()
    events = [
        event_text(
            id=f"{prefix}-{number}",
            subject=customer(rng.randrange(customers)),
            time=now,
            run=run,
            model=MODELS[number % len(MODELS)],
            tokens=rng.randrange(1, 8_000),
        )
        for number in range(count)
    ]
    return f"[{','.join(events)}]".encode()


def packed(body: bytes) -> tuple[bytes, str | None]:
    """The body as the client sends it by default, and its Content-Encoding."""
    return pack(body, compression=OPTIONS.compression, bytes_min=OPTIONS.compress_bytes_min)
