"""The audit log over HTTP: who changed what, and when."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from api.models.listing import Listing
from api.models.page import Page
from api.paging import (
    InvalidCursor,
    decode_cursor,
    encode_cursor,
)
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.clock import to_micros, to_rfc3339
from catalog.keys import Scope
from storage.sql.audit import AuditEntry, AuditLog, AuditQuery

TEXT_CHARS_MAX = 512
POSITION_DIGITS_MAX = 18
_Text = Annotated[str, Field(min_length=1, max_length=TEXT_CHARS_MAX, pattern=r"^[^\x00]*$")]


class AuditParameters(Listing):
    """Which entries; what is not given does not restrict."""

    kind: _Text | None = Field(None, description="contracts, keys, periods, …", examples=["keys"])
    subject: _Text | None = Field(None, description="The id of what was changed.")
    actor: _Text | None = Field(None, description="A key's id, or cli.", examples=["cli"])

    @property
    def query(self) -> AuditQuery:
        """What the store is asked."""
        return AuditQuery(
            kind=self.kind,
            subject=self.subject,
            actor=self.actor,
            since=None if self.since is None else to_micros(self.since),
            until=None if self.until is None else to_micros(self.until),
        )


class AuditEntryView(BaseModel):
    """One change. ``digest`` is the SHA-256 of what the subject is since then.

    ``chain`` is a SHA-256 over the entry and the chain of the one before.
    """

    position: int
    at: str
    actor: str
    kind: str
    subject: str
    action: str
    summary: dict[str, Any]
    digest: str | None
    chain: str


def build_router(*, audit: AuditLog) -> APIRouter:
    """``GET /v1/audit``."""
    router = APIRouter(
        prefix="/v1/audit",
        tags=["operations"],
        route_class=StrictRoute,
        dependencies=[Depends(require(Scope.ADMIN))],
    )

    @router.get("", summary="Who changed what, the newest first")
    def list_audit(asked: Annotated[AuditParameters, Query()]) -> Page[AuditEntryView]:
        """Every change to the catalog, grants, keys, periods, invoices, exports and the clock."""
        found = audit.page(asked.query, before=_before(asked.cursor), limit=asked.limit + 1)
        shown = found[: asked.limit]
        more = encode_cursor(str(shown[-1].position)) if len(found) > asked.limit else None
        return Page(items=[_view(entry) for entry in shown], next_cursor=more)

    return router


def _view(entry: AuditEntry) -> AuditEntryView:
    return AuditEntryView(
        position=entry.position,
        at=to_rfc3339(entry.recorded_at),
        actor=entry.actor,
        kind=entry.kind,
        subject=entry.subject,
        action=entry.action,
        summary=dict(entry.summary),
        digest=entry.digest,
        chain=entry.chain,
    )


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    text = decode_cursor(cursor)
    if not (text.isascii() and text.isdecimal() and len(text) <= POSITION_DIGITS_MAX):
        raise InvalidCursor
    return int(text)
