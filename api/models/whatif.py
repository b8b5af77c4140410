"""What ``POST /v1/quotes`` and ``POST /v1/simulations`` take."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.models.instants import Instant
from catalog.errors import FieldError, InvalidRequest
from catalog.periods import PeriodSpec

CUSTOMERS_MAX = 10_000
USAGE_MAX = 10_000

AsOf = Annotated[
    Instant | None,
    Field(strict=False, description="As it was known then; default: everything acknowledged."),
]
Period = Annotated[str, Field(description="YYYY, YYYY-Qn, YYYY-MM or YYYY-MM-DD")]


class SimulationRequest(BaseModel):
    """A period, and a catalog document to lay over the catalog while it is rated."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    period: Period
    patch: Any
    customers: list[str] | None = Field(default=None, min_length=1, max_length=CUSTOMERS_MAX)
    as_of: AsOf = None


class UsageItem(BaseModel):
    """How much of a meter a period is to have. A dimension that is null is absent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    meter: str
    period: Period
    quantity: str | int = Field(description="A decimal as text, or an integer.")
    dimensions: dict[str, str | None] = Field(default_factory=dict)


class HistoryItem(BaseModel):
    """The usage that a customer had."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    customer: str
    period: Period


class QuoteRequest(BaseModel):
    """Proposed terms (a contract in catalog form, or the id of one) and the usage to try.

    Exactly one of ``usage`` and ``history``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    contract: Any
    usage: list[UsageItem] | None = Field(default=None, min_length=1, max_length=USAGE_MAX)
    history: HistoryItem | None = None
    as_of: AsOf = None


def read_period(text: str, pointer: str) -> PeriodSpec:
    """A period of a body.

    Raises:
        InvalidRequest: it is none; ``pointer`` says which.
    """
    try:
        return PeriodSpec.parse(text)
    except InvalidRequest as error:
        raise wrong(pointer, error.detail) from error


def wrong(pointer: str, detail: str) -> InvalidRequest:
    """One wrong field of a body."""
    return InvalidRequest(detail, errors=[FieldError(pointer=pointer, detail=detail)])
