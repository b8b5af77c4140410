"""Errors as the caller sees them: RFC 9457 ``application/problem+json``.

The one place where an error becomes a status. Domain errors carry a ``code``; the table says
what each code is over HTTP. A subclass whose code is not in the table answers like its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
from starlette.responses import Response
from starlette.types import Send

from catalog.errors import DomainError, FieldError

CONTENT_TYPE = b"application/problem+json"
TYPE_BASE = "/problems/"

# code: (status, title). Titles never vary with the occurrence; the detail does.
PROBLEMS: dict[str, tuple[int, str]] = {
    "error": (422, "The request cannot be carried out"),
    # 400: the bytes cannot be read as what they claim to be
    "invalid_body": (400, "The body cannot be read"),
    "unreadable_body": (400, "The body cannot be read"),
    "empty_body": (400, "The body is empty"),
    "bad_request": (400, "The request is not valid HTTP"),
    # 401, 403: who asks
    "unauthenticated": (401, "A valid API key is needed"),
    "forbidden": (403, "The key does not allow this"),
    # 404 to 431: HTTP itself
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "not_acceptable": (406, "None of the formats asked for is offered"),
    "request_timeout": (408, "The request took too long to arrive"),
    "body_too_large": (413, "The body is too large"),
    "too_many_events": (413, "The body has too many events"),
    "unsupported_media_type": (415, "The content type or encoding is not supported"),
    "headers_too_large": (431, "The request headers are too large"),
    # 409: it contradicts what is there
    "conflict": (409, "The request contradicts what is there"),
    "in_use": (409, "Something in force still names it"),
    "last_admin_key": (409, "It is the last admin key"),
    "node_taken": (409, "The node's name belongs to another log"),
    "export_changed": (409, "What would be sent again is not what was sent"),
    "export_stream_fixed": (409, "An export's positions count one thing for good"),
    "stretch_taken": (409, "Another run has taken these positions"),
    "revision_changed": (409, "The catalog changed in between"),
    "key_reused": (409, "The key was used for another request"),
    "reservation_expired": (409, "The reservation has expired"),
    "reservation_ended": (409, "The reservation has ended otherwise"),
    "period_not_ended": (409, "The period has not ended"),
    "earlier_period_open": (409, "An earlier period is open"),
    "node_behind": (409, "A node has not been heard of"),
    "books_changed": (409, "The books changed in between"),
    "invoice_not_issued": (409, "The invoice was not issued"),
    "invoice_void": (409, "The invoice was voided"),
    "tax_rate_missing": (409, "There is no tax rate for it"),
    "clock_backwards": (409, "The sandbox clock only moves forwards"),
    "not_sandbox": (409, "Only a sandbox can do this"),
    # 422: readable, and a field of it is wrong
    "invalid_request": (422, "The request is not valid"),
    "unknown_parameter": (422, "The request has a parameter that does not exist"),
    "invalid_document": (422, "The document is not valid"),
    "invalid_decimal": (422, "A number cannot be read"),
    "invalid_duration": (422, "A duration cannot be read"),
    "invalid_time": (422, "A time cannot be read"),
    "too_precise": (422, "A number has too many decimals"),
    "unknown_currency": (422, "The currency is not known"),
    "unknown_store": (422, "The store does not exist"),
    "too_many_windows": (422, "The interval has too many windows"),
    "events_rejected": (422, "Some events were rejected; nothing was kept"),
    "not_a_month": (422, "The period is not a month"),
    "as_of_in_future": (422, "as_of is later than what is known"),
    "not_consumable": (422, "The feature cannot be consumed"),
    "out_of_range": (422, "A number is beyond what is exact"),
    "inconsistent_catalog": (422, "The catalog contradicts itself"),
    "unsupported_terms": (422, "The catalog has terms that cannot be rated yet"),
    "usage_in_advance": (422, "Usage cannot be priced in advance"),
    "mixed_currencies": (422, "The terms bill in more than one currency"),
    "no_data": (422, "Nothing was used or billed in the period"),
    "meter_not_read": (422, "The change reads from events what is not read from them yet"),
    "not_quotable": (422, "A quantity alone does not say what the price asks"),
    "forbidden_address": (422, "The URL may not be reached"),
    "erp_limit": (422, "The ERP would not take the file"),
    "quantity_not_covered": (422, "No tier or row covers the quantity"),
    # 500, 503: our side
    "internal": (500, "An unexpected error"),
    "export_undelivered": (502, "The destination did not take it"),
    "delivery_failed": (502, "The destination did not take it"),
    "unresolved_host": (503, "The host has no address"),
    "document_changed": (503, "A document cannot be read back as it was issued"),
    "unavailable": (503, "A part of the service is not ready"),
    "backpressure": (503, "The service's queue is full"),
    "log_unavailable": (503, "The log cannot be written"),
    "log_corrupt": (503, "A log segment is damaged"),
    "log_locked": (503, "Another process holds the log"),
    "log_too_new": (503, "A newer release wrote the log"),
    "ledger_lost": (503, "The entitlement ledger is being rebuilt"),
    "position_overlap": (503, "The entitlement ledger is being rebuilt"),
    "readers_behind": (503, "The readers have not caught up"),
    "worker_unavailable": (503, "The worker is not running"),
    "ledger_unavailable": (503, "The entitlement ledger is not reachable"),
    "store_unavailable": (503, "A store is not reachable"),
    "store_inconsistent": (503, "A store does not follow the log"),
    "compensations_ahead": (503, "Copies were looked for in records that are not there"),
    "database_unavailable": (503, "The SQL database is not reachable"),
    "database_too_new": (503, "A newer release wrote the database"),
    "overloaded": (503, "Too many requests at once"),
}

RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem document and the headers it is sent with.

    ``members`` are extension members (``rejected``, …), beside the standard ones.
    """

    status: int
    code: str
    title: str
    detail: str = ""
    errors: tuple[FieldError, ...] = ()
    members: Mapping[str, object] = field(default_factory=dict)
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def body(self, request_id: str) -> bytes:
        """The JSON document, with the request's id as ``instance``."""
        document: dict[str, object] = {
            "type": TYPE_BASE + self.code,
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail or self.title,
            "instance": request_id,
        }
        if self.errors:
            document["errors"] = [
                {"pointer": error.pointer, "detail": error.detail} for error in self.errors
            ]
        return orjson.dumps(document | dict(self.members), default=str)


def problem_of(error: DomainError) -> Problem:
    """The problem a domain error is: by its code, else by its nearest listed ancestor's code.

    An error may offer ``members`` (a mapping) for extension members of the document, and
    ``allowed`` methods.
    """
    status, title = _lookup(type(error))
    headers: list[tuple[bytes, bytes]] = []
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_s = RETRY_AFTER_S
    if retry_after_s is not None and status in {429, 503}:
        headers.append((b"retry-after", str(max(1, int(retry_after_s))).encode()))
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if allowed := getattr(error, "allowed", ()):
        headers.append((b"allow", ", ".join(allowed).encode()))
    return Problem(
        status=status,
        code=error.code,
        title=title,
        detail=error.detail,
        errors=error.errors,
        members=getattr(error, "members", None) or {},
        headers=tuple(headers),
    )


def problem_with_code(
    code: str,
    *,
    detail: str = "",
    errors: tuple[FieldError, ...] = (),
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Problem:
    """A problem made at the edge itself, where nothing raised a domain error."""
    status, title = PROBLEMS[code]
    return Problem(
        status=status, code=code, title=title, detail=detail, errors=errors, headers=headers
    )


INTERNAL = problem_with_code("internal")


def problem_response(problem: Problem | DomainError, *, request_id: str) -> Response:
    """``problem`` as a Starlette response, for the worker's routes."""
    if isinstance(problem, DomainError):
        problem = problem_of(problem)
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(
        problem.body(request_id),
        status_code=problem.status,
        headers=headers,
        media_type=CONTENT_TYPE.decode(),
    )


async def send_problem(send: Send, problem: Problem, *, request_id: str) -> None:
    """Send ``problem`` as the whole response, for plain ASGI."""
    body = problem.body(request_id)
    headers = [
        (b"content-type", CONTENT_TYPE),
        (b"content-length", str(len(body)).encode()),
        *problem.headers,
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _lookup(error: type[DomainError]) -> tuple[int, str]:
    for ancestor in error.__mro__:
        code = getattr(ancestor, "code", None)
        if isinstance(code, str) and code in PROBLEMS:
            return PROBLEMS[code]
    return PROBLEMS["error"]
