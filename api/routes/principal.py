"""Who asks: the gateway authenticates, the worker reads its verdict and checks the scope.

The headers are trusted because only gateways can reach the worker's unix socket, and they drop
what a caller sent under these names.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request

from api.auth import Forbidden, Principal
from catalog.keys import allows

KEY_ID_HEADER = "x-tallyman-key-id"
SCOPES_HEADER = "x-tallyman-scopes"


def require(*scopes: str) -> Callable[[Request], Principal]:
    """A dependency that lets callers with any of ``scopes`` (or ``admin``) in.

    Use as ``principal: Annotated[Principal, Depends(require(Scope.READ))]``.

    Raises:
        Forbidden: when called, by a key that has none of them.
    """

    def principal_of(request: Request) -> Principal:
        listed = request.headers.get(SCOPES_HEADER, "")
        held = frozenset(part.strip() for part in listed.split(",") if part.strip())
        if not any(allows(held, scope) for scope in scopes):
            raise Forbidden(f"this needs a key with the scope {' or '.join(scopes)}")
        return Principal(key_id=request.headers.get(KEY_ID_HEADER, ""), scopes=held)

    return principal_of
