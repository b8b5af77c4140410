"""What lists by time take as their query."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.models.instants import Instant
from api.models.parameters import DIGITS
from api.paging import CURSOR_CHARS_MAX, LIMIT_DEFAULT, LIMIT_MAX


class Listing(BaseModel):
    """A stretch ``[from, to)``, and which page of it; what is not given does not restrict."""

    model_config = ConfigDict(frozen=True)

    since: Instant | None = Field(None, alias="from", description="Inclusive.")
    until: Instant | None = Field(None, alias="to", description="Exclusive.")
    limit: Annotated[int, DIGITS] = Field(LIMIT_DEFAULT, ge=1, le=LIMIT_MAX)
    cursor: str | None = Field(None, max_length=CURSOR_CHARS_MAX)
