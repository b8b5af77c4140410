"""Who asks: the gateway authenticates, the worker reads its verdict and checks the scope.

The headers are trusted because only gateways can reach the worker's unix socket, and they drop
what a caller sent under these names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from catalog.errors import DomainError
from catalog.keys import Scope, allows

KEY_ID_HEADER = "x-tallyman-key-id"
SCOPES_HEADER = "x-tallyman-scopes"


class Forbidden(DomainError):
    """The key is good, and not for this."""

    code = "forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The key behind a relayed request. ``key_id`` is None for one the service makes itself."""

    key_id: str | None
    scopes: frozenset[str]


def require(*scopes: Scope) -> Callable[[Request], Caller]:
    """A dependency that lets callers with any of ``scopes`` (or ``admin``) in.

    Use as ``caller: Annotated[Caller, Depends(require(Scope.READ))]``.

    Raises:
        Forbidden: when called, by a key that has none of them.
    """

    def caller_of(request: Request) -> Caller:
        listed = request.headers.get(SCOPES_HEADER, "")
        held = frozenset(part.strip() for part in listed.split(",") if part.strip())
        if not any(allows(held, scope) for scope in scopes):
            raise Forbidden(f"this needs a key with the scope {' or '.join(scopes)}")
        return Caller(key_id=request.headers.get(KEY_ID_HEADER), scopes=held)

    return caller_of
