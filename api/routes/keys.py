"""API keys: made once, shown once, revoked for good."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Protocol, Self

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.auth import Principal
from api.models.instants import Instant
from api.models.page import Cursor, Limit, Page, paginate
from api.paging import LIMIT_DEFAULT
from api.reach import LIMITED_BY_CUSTOMER, LIMITED_BY_SOURCE
from api.routes.principal import require
from api.routes.strict import StrictRoute
from catalog.clock import Clock, to_micros, to_rfc3339
from catalog.errors import Conflict, FieldError, InvalidRequest, NotFound
from catalog.keys import RANDOM_BYTES, KeyId, KeyRecord, Scope, key_digest, make_key

NAME_CHARACTERS_MAX = 200
LIMITED_TO_MAX = 1_000
LimitText = Annotated[str, Field(min_length=1, max_length=256)]
Admin = Annotated[Principal, Depends(require(Scope.ADMIN))]


class LastAdminKey(Conflict):
    """Without this key nobody could make another one."""

    code = "last_admin_key"


class Keys(Protocol):
    """Where keys are kept (:class:`storage.sql.keys.KeyStore`)."""

    def add(self, key: KeyRecord, *, actor: str | None = None) -> None:
        """Store a new key."""
        ...

    def revoke(self, key: KeyId, *, actor: str | None = None) -> None:
        """Close a key for good."""
        ...

    def all(self) -> list[KeyRecord]:
        """Every key there ever was, oldest first."""
        ...


Limited = Annotated[frozenset[LimitText], Field(min_length=1, max_length=LIMITED_TO_MAX)]


class NewKey(BaseModel):
    """What a key is to be called and to do.

    ``customers`` limits a key to what names one of these customers (scopes read, entitlements,
    finance); ``sources`` to sending, voiding and looking up events of these sources (scopes
    ingest, read).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f]+$")
    scopes: frozenset[Scope] = Field(min_length=1)
    expires_at: Instant | None = None
    customers: Limited | None = None
    sources: Limited | None = None

    @model_validator(mode="after")
    def _limits_mean_something(self) -> Self:
        if self.customers is not None and self.sources is not None:
            raise ValueError("a key is limited to customers or to sources, not to both")
        for limit, possible in (
            (self.customers, LIMITED_BY_CUSTOMER),
            (self.sources, LIMITED_BY_SOURCE),
        ):
            if limit is not None and not self.scopes <= possible:
                allowed = ", ".join(sorted(possible))
                raise ValueError(f"a key limited like this can have the scopes {allowed} only")
        return self


class KeyView(BaseModel):
    """A key as anyone but its holder sees it. Times are RFC 3339."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    customers: list[str] | None
    sources: list[str] | None

    @classmethod
    def of(cls, record: KeyRecord, **more: str) -> Self:
        """``record`` without anything that could open a door; ``more`` for a subclass."""
        return cls(
            id=record.id,
            name=record.name,
            scopes=sorted(record.scopes),
            created_at=to_rfc3339(record.created_at),
            expires_at=None if record.expires_at is None else to_rfc3339(record.expires_at),
            revoked_at=None if record.revoked_at is None else to_rfc3339(record.revoked_at),
            customers=None if record.customers is None else sorted(record.customers),
            sources=None if record.sources is None else sorted(record.sources),
            **more,
        )


class MadeKey(KeyView):
    """A new key with its text, which is not kept and cannot be shown again."""

    key: str


def build_router(
    *, keys: Keys, clock: Clock, randomness: Callable[[int], bytes] = secrets.token_bytes
) -> APIRouter:
    """The routes under ``/v1/keys``; all of them need ``admin``."""
    router = APIRouter(
        prefix="/v1/keys",
        tags=["keys"],
        route_class=StrictRoute,
        dependencies=[Depends(require(Scope.ADMIN))],
    )

    @router.post("", status_code=201, summary="Make a key; its text is in this answer only")
    def make(new: NewKey, admin: Admin) -> MadeKey:
        actor = admin.key_id or None
        return create_key(new, keys=keys, clock=clock, randomness=randomness, actor=actor)

    @router.get("", summary="Every key, oldest first, revoked ones too")
    def listing(limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None) -> Page[KeyView]:
        return paginate([KeyView.of(key) for key in keys.all()], limit, cursor)

    @router.get("/{key_id}", summary="One key")
    def one(key_id: str) -> KeyView:
        return KeyView.of(_find(keys.all(), key_id))

    @router.delete("/{key_id}", status_code=204, summary="Revoke a key, for good")
    def revoke(key_id: str, admin: Admin) -> None:
        revoke_key(key_id, keys=keys, clock=clock, actor=admin.key_id or None)

    return router


def create_key(
    new: NewKey,
    *,
    keys: Keys,
    clock: Clock,
    randomness: Callable[[int], bytes] = secrets.token_bytes,
    actor: str | None = None,
) -> MadeKey:
    """Make and store a key.

    Raises:
        InvalidRequest: it would never work.
    """
    record, text = _new_record(new, clock=clock, randomness=randomness)
    keys.add(record, actor=actor)
    return MadeKey.of(record, key=text)


def revoke_key(key_id: str, *, keys: Keys, clock: Clock, actor: str | None = None) -> None:
    """Close a key for good.

    Raises:
        NotFound: there is no such key.
        LastAdminKey: nobody could make another one.
    """
    known = keys.all()
    key = _find(known, key_id)
    _keep_one_admin(known, key, now=clock.now_us())
    keys.revoke(key.id, actor=actor)


def _new_record(
    new: NewKey, *, clock: Clock, randomness: Callable[[int], bytes]
) -> tuple[KeyRecord, str]:
    now = clock.now_us()
    expires_at = None if new.expires_at is None else to_micros(new.expires_at)
    if expires_at is not None and expires_at <= now:
        error = FieldError(pointer="/expires_at", detail="must be in the future")
        raise InvalidRequest("the key would never work", errors=[error])
    identity, text = make_key(randomness(RANDOM_BYTES))
    record = KeyRecord(
        id=identity,
        digest=key_digest(text),
        name=new.name,
        scopes=new.scopes,
        created_at=now,
        expires_at=expires_at,
        customers=new.customers,
        sources=new.sources,
    )
    return record, text


def _find(known: list[KeyRecord], key_id: str) -> KeyRecord:
    for key in known:
        if key.id == key_id:
            return key
    raise NotFound(f"no key {key_id}")


def _keep_one_admin(known: list[KeyRecord], leaving: KeyRecord, *, now: int) -> None:
    if not (leaving.is_live(now) and leaving.allows(Scope.ADMIN)):
        return
    others = (key for key in known if key.id != leaving.id)
    if not any(key.is_live(now) and key.allows(Scope.ADMIN) for key in others):
        raise LastAdminKey("this is the last admin key; make another one first")
