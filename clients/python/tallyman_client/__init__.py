"""The Python client of Tallyman: record usage, ask what is still allowed, pull totals.

from tallyman_client import Tallyman

with Tallyman("http://127.0.0.1:8080", key="…", source="checkout") as client:
    client.record(type="llm.completion", subject="acme", data={"tokens": 1834})
"""

from tallyman_client._aclient import AsyncTallyman
from tallyman_client._calls import ARROW, PARQUET
from tallyman_client._client import Tallyman
from tallyman_client._encoding import Event
from tallyman_client._errors import (
    ApiError,
    BufferFull,
    Closed,
    Conflict,
    FlushTimeout,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    TallymanError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from tallyman_client._ids import new_id
from tallyman_client._options import Options, Retry
from tallyman_client._results import (
    Decision,
    Entitlement,
    Item,
    ItemDecision,
    Receipt,
    Rejection,
    Reservation,
    Stats,
)

__all__ = [
    "ARROW",
    "PARQUET",
    "ApiError",
    "AsyncTallyman",
    "BufferFull",
    "Closed",
    "Conflict",
    "Decision",
    "Entitlement",
    "Event",
    "FlushTimeout",
    "Forbidden",
    "InvalidRequest",
    "Item",
    "ItemDecision",
    "NotFound",
    "Options",
    "RateLimited",
    "Receipt",
    "Rejection",
    "Reservation",
    "Retry",
    "Stats",
    "Tallyman",
    "TallymanError",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "new_id",
]
