"""Grants bought or given to a customer, beside the contract's allowances."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol, Self

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from api.auth import Principal
from api.models.page import Cursor, Limit, Page, paginate
from api.paging import LIMIT_DEFAULT
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.clock import Clock, Micros, to_micros, to_rfc3339
from catalog.errors import FieldError, InvalidRequest, NotFound
from catalog.ids import ID_PATTERN, CustomerId, FeatureId
from catalog.keys import Scope
from catalog.meters import ADDITIVE
from catalog.periods import FOREVER
from catalog.pricebooks import Anchor
from catalog.products import FeatureKind
from catalog.snapshot import Catalog
from entitlements.amounts import parse_amount, to_text
from entitlements.given import GivenGrant, GrantBook, GrantId

PRIORITY_MAX = 1_000_000
EVERY_MONTHS_MAX = 1_200
_WRITERS = require(Scope.ENTITLEMENTS, Scope.CATALOG)
_READERS = require(Scope.ENTITLEMENTS, Scope.CATALOG, Scope.READ)

Instant = Annotated[
    AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2100, 1, 1, tzinfo=UTC))
]


def _text(value: object) -> object:
    """A whole JSON number as text; what is neither fails as no string."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Amount = Annotated[str, BeforeValidator(_text), Field(max_length=64)]


class Grants(Protocol):
    """Where grants are kept (:class:`storage.sql.grants.GrantStore`)."""

    def current(self) -> GrantBook:
        """Every grant there is."""
        ...

    def add(self, grant: GivenGrant, *, actor: str | None = None) -> GivenGrant:
        """State a grant."""
        ...

    def revoke(
        self, customer: CustomerId, grant: GrantId, *, actor: str | None = None
    ) -> GivenGrant:
        """End a grant now."""
        ...


class EveryMonths(BaseModel):
    """Every so many months."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every_months: int = Field(ge=1, le=EVERY_MONTHS_MAX)


Every = Literal["month"] | EveryMonths


def _spelled_out(value: object) -> object:
    return {"every_months": 1} if value == "month" else value


EveryGiven = Annotated[
    EveryMonths,
    BeforeValidator(_spelled_out, json_schema_input_type=Literal["month"] | EveryMonths),
]


class NewGrant(BaseModel):
    """What to grant. With an ``id`` of the caller's a retry grants nothing twice.

    Without ``effective_at`` from now on, without ``expires_at`` for ever. ``rollover_max`` is what
    survives a reset of the feature's allowance, null: all of it. With ``every`` the amount is given
    anew so often, from ``effective_at`` on or (``anchor``) at the calendar's months; then
    ``rollover_max`` is what survives that, null: nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(default=None, pattern=f"^{ID_PATTERN.pattern}$")
    feature: str = Field(min_length=1, max_length=128)
    amount: Amount
    priority: int = Field(default=0, ge=-PRIORITY_MAX, le=PRIORITY_MAX)
    effective_at: Instant | None = None
    expires_at: Instant | None = None
    rollover_max: Amount | None = None
    every: EveryGiven | None = None
    anchor: Anchor | None = None


class GrantView(BaseModel):
    """A grant. Amounts are decimals as strings, times RFC 3339 in UTC."""

    id: str
    customer: str
    feature: str
    amount: str
    priority: int
    effective_at: str
    expires_at: str | None
    rollover_max: str | None
    every: Every | None
    anchor: Anchor | None
    recorded_at: str
    revoked_at: str | None

    @classmethod
    def of(cls, grant: GivenGrant) -> Self:
        """``grant`` as it is shown."""
        return cls(
            id=grant.id,
            customer=grant.customer,
            feature=grant.feature,
            amount=to_text(grant.amount),
            priority=grant.priority,
            effective_at=to_rfc3339(grant.effective),
            expires_at=None if grant.expires >= FOREVER else to_rfc3339(grant.expires),
            rollover_max=None if grant.rollover_max is None else to_text(grant.rollover_max),
            every=_shown_every(grant.every_months),
            anchor=None if grant.every_months is None else grant.anchor,
            recorded_at=to_rfc3339(grant.recorded_at),
            revoked_at=None if grant.revoked_at is None else to_rfc3339(grant.revoked_at),
        )


def build_router(*, grants: Grants, catalog: Callable[[], Catalog], clock: Clock) -> APIRouter:
    """The routes under ``/v1/customers/{customer}/grants``."""
    router = APIRouter(
        prefix="/v1/customers/{customer}/grants", tags=["entitlements"], route_class=StrictRoute
    )

    @router.post("", status_code=201, summary="Grant an amount of a feature")
    def give(
        customer: str, new: NewGrant, principal: Annotated[Principal, Depends(_WRITERS)]
    ) -> GrantView:
        now = clock.now_us()
        _check(catalog(), customer, new.feature, now)
        grant = _grant(CustomerId(customer), new, _known(grants, customer, new.id), now)
        return GrantView.of(grants.add(grant, actor=principal.key_id or None))

    @router.get("", summary="A customer's grants, oldest first", dependencies=[Depends(_READERS)])
    def listing(
        customer: str, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[GrantView]:
        _customer(catalog(), customer)
        found = grants.current().of(CustomerId(customer))
        return paginate([GrantView.of(grant) for grant in found], limit, cursor)

    @router.get("/{grant_id}", summary="One grant", dependencies=[Depends(_READERS)])
    def one(customer: str, grant_id: str) -> GrantView:
        known = _known(grants, customer, grant_id)
        if known is None:
            raise NotFound(f"no grant {grant_id!r} of this customer")
        return GrantView.of(known)

    @router.delete("/{grant_id}", summary="End a grant now; what it paid stays paid")
    def revoke(
        customer: str, grant_id: str, principal: Annotated[Principal, Depends(_WRITERS)]
    ) -> GrantView:
        revoked = grants.revoke(
            CustomerId(customer), GrantId(grant_id), actor=principal.key_id or None
        )
        return GrantView.of(revoked)

    return router


def _known(grants: Grants, customer: str, grant: str | None) -> GivenGrant | None:
    found = grants.current().of(CustomerId(customer)) if grant is not None else ()
    return next((known for known in found if known.id == grant), None)


def _grant(
    customer: CustomerId, new: NewGrant, known: GivenGrant | None, now: Micros
) -> GivenGrant:
    amount = parse_amount(new.amount, pointer="/amount")
    if amount == 0:
        raise _wrong("/amount", "must be above zero")
    rollover = new.rollover_max
    # A retry that leaves the beginning to us means the same beginning as the first time.
    begins = known.effective if known is not None else now
    effective = begins if new.effective_at is None else to_micros(new.effective_at)
    expires = FOREVER if new.expires_at is None else to_micros(new.expires_at)
    if expires <= effective:
        raise _wrong("/expires_at", "must be after effective_at")
    return GivenGrant(
        id=GrantId(new.id or f"grant-{secrets.token_hex(12)}"),
        customer=customer,
        feature=FeatureId(new.feature),
        amount=amount,
        priority=new.priority,
        effective=Micros(effective),
        expires=Micros(expires),
        rollover_max=None if rollover is None else parse_amount(rollover, pointer="/rollover_max"),
        recorded_at=now,
        every_months=_every_months(new),
        anchor=new.anchor or Anchor.CONTRACT,
    )


def _every_months(new: NewGrant) -> int | None:
    if new.anchor is not None and new.every is None:
        raise _wrong("/anchor", "needs 'every': what is given once has no periods")
    return None if new.every is None else new.every.every_months


def _shown_every(months: int | None) -> Every | None:
    if months is None:
        return None
    return "month" if months == 1 else EveryMonths(every_months=months)


def _customer(catalog: Catalog, customer: str) -> None:
    if CustomerId(customer) not in catalog.customers:
        raise NotFound(f"no customer {customer!r}")


def _check(catalog: Catalog, customer: str, feature: str, now: Micros) -> None:
    _customer(catalog, customer)
    chain = catalog.features.get(FeatureId(feature))
    found = chain.at(now, catalog.timezone) if chain else None
    if found is None:
        raise _wrong("/feature", "is not in the catalog")
    if found.kind is not FeatureKind.METERED:
        raise _wrong("/feature", "is not metered: there are no amounts of it")
    meters = catalog.meters.get(found.meter) if found.meter else None
    meter = meters.at(now, catalog.timezone) if meters else None
    if meter is None or meter.aggregation not in ADDITIVE:
        raise _wrong("/feature", "is not counted by a sum or count meter")


def _wrong(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest(
        f"{pointer} {detail}", errors=[FieldError(pointer=pointer, detail=detail)]
    )
