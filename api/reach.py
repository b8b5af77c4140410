"""What a key limited to customers or to sources reaches: a table of where a route names them.

Asked before anything is looked up, and answered the same whether what is asked for exists or
not. A route that no row names is closed to limited keys, so one added without a row is too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote

from starlette.types import Scope as Request

from api.auth import Forbidden, Principal
from catalog.keys import Scope

LIMITED_BY_CUSTOMER = frozenset({Scope.READ, Scope.ENTITLEMENTS, Scope.FINANCE})
LIMITED_BY_SOURCE = frozenset({Scope.INGEST, Scope.READ})

# (method, path); the group is where the path names whom. Reads are GET (and HEAD).
_CUSTOMER_PATHS = (
    ("*", re.compile(r"/v1/customers/([^/]+)/(?:entitlements|grants|current)(?:/.*)?")),
    ("GET", re.compile(r"/v1/customers/([^/]+)(?:/versions)?")),
)
_CUSTOMER_QUERIES = re.compile(r"/v1/(?:totals|invoices|meters/[^/]+/usage|reports/[^/]+)")
_SOURCE_PATH = re.compile(r"/v1/events/([^/]+)/[^/]+")
# The handlers check these themselves: the names are in the body.
_CUSTOMER_BODIES = frozenset({("POST", "/v1/entitlements/check")})
_SOURCE_BODIES = frozenset({("POST", "/v1/events"), ("POST", "/v1/events/void")})


def check_reach(principal: Principal, request: Request) -> None:
    """Let a limited key pass to what is its own.

    Raises:
        Forbidden: the request is about something else, or does not say whom it is about.
    """
    method = "GET" if request["method"] == "HEAD" else request["method"]
    if principal.customers is not None:
        allowed, bodies = principal.customers, _CUSTOMER_BODIES
        named = _customer_in_path(method, request) or _in_query(method, request)
    else:
        allowed, bodies = principal.sources or frozenset(), _SOURCE_BODIES
        named = _source_in_path(method, request)
    if (method, request["path"]) in bodies:
        return
    if named is None or named not in allowed:
        raise _refusal(principal)


def check_sources(request: Request, sources: Iterable[object]) -> None:
    """Refuse a body that names a source the key is not limited to; call it before keeping any.

    Raises:
        Forbidden: nothing of the body may be kept.
    """
    principal = _who_asks(request)
    if principal is None or principal.sources is None:
        return
    if not principal.sources.issuperset(sources):
        raise _refusal(principal)


def check_customers(request: Request, customers: Iterable[str]) -> None:
    """Refuse a body that names a customer the key is not limited to.

    Raises:
        Forbidden: nothing of it may be answered.
    """
    principal = _who_asks(request)
    if principal is None or principal.customers is None:
        return
    if not principal.customers.issuperset(customers):
        raise _refusal(principal)


def is_limited_to_sources(request: Request) -> bool:
    """Whether the request's events have to be looked at before they are kept."""
    principal = _who_asks(request)
    return principal is not None and principal.sources is not None


def _who_asks(request: Request) -> Principal | None:
    """Null on the internal sockets, where nobody has to say who they are."""
    state: dict[str, Principal] = request.get("state", {})
    return state.get("principal")


def _refusal(principal: Principal) -> Forbidden:
    """Always the same text: it must not tell what there is."""
    whom = "customers" if principal.customers is not None else "sources"
    return Forbidden(f"the key is limited to some {whom}; the request must name one of them")


def _source_in_path(method: str, request: Request) -> str | None:
    """Whose event is looked up: read from the path as sent, as the look-up itself reads it."""
    sent = _SOURCE_PATH.fullmatch(request["raw_path"].decode("latin-1"))
    return unquote(sent[1]) if sent and method == "GET" else None


def _customer_in_path(method: str, request: Request) -> str | None:
    """Whom the path names: the same as sent and decoded, so that both readings agree."""
    for wanted, pattern in _CUSTOMER_PATHS:
        if wanted not in {"*", method}:
            continue
        decoded = pattern.fullmatch(request["path"])
        sent = pattern.fullmatch(request["raw_path"].decode("latin-1"))
        if decoded and sent and decoded[1] == unquote(sent[1]):
            return decoded[1]
    return None


def _in_query(method: str, request: Request) -> str | None:
    """The one customer of a list that can be narrowed to one."""
    if method != "GET" or not _CUSTOMER_QUERIES.fullmatch(request["path"]):
        return None
    pairs = parse_qsl(request["query_string"].decode("latin-1"), keep_blank_values=True)
    given = [value for name, value in pairs if name == "customer"]
    return given[0] if len(given) == 1 else None
