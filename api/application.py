"""The worker's application: its routers, and how whatever goes wrong is answered.

It trusts whoever reaches its socket (the directory is the owner's alone): the gateways, which
say in headers who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.documenting.overlay import lay_over
from api.hot.metrics import own_metrics
from api.openapi import hoist_definitions
from api.parts import Check, Worker
from api.problems import INTERNAL, problem_response, problem_with_code
from catalog.errors import DomainError, FieldError

log = structlog.get_logger()

_BY_STATUS = {404: "not_found", 405: "method_not_allowed"}


def create_app(worker: Worker, *, version: str) -> ASGIApp:
    """The worker's application, with its services bound to its lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for service in worker.services:
            await asyncio.to_thread(service.start)
        log.info("worker_ready", services=len(worker.services))
        try:
            yield
        finally:
            await asyncio.to_thread(_stop, worker)

    app = FastAPI(
        title="Tallyman",
        version=version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in worker.routers:
        app.include_router(router)
    app.include_router(_internal_router(worker.checks))
    app.state.routes = [
        route for router in worker.routers for route in router.routes if isinstance(route, Route)
    ]
    app.add_exception_handler(DomainError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unexpected_error)
    _document_hot_paths(app, worker.hot_paths)
    return RequestContext(app)


class RequestContext:
    """The outermost layer: the request's id in the log, and unexpected errors logged once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = Request(scope).headers.get("x-request-id", "")
        scope.setdefault("state", {})["request_id"] = request_id
        answered = False

        async def watch(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, watch)
            except ClientDisconnect:  # it sent half a body and left: nobody waits for an answer
                log.debug("client_gone", method=scope["method"], path=scope["path"])
            except Exception:
                log.exception("request_failed", method=scope["method"], path=scope["path"])
                if not answered:  # it broke in the middle: so must the connection
                    raise


def _stop(worker: Worker) -> None:
    for service in worker.services:
        service.end()
    for service in reversed(worker.services):
        try:
            service.stop()
        except Exception:
            log.exception("service_not_stopped", service=type(service).__name__)
    for close in reversed(worker.closers):
        try:
            close()
        except Exception:
            log.exception("not_closed")


def _internal_router(checks: Mapping[str, Check]) -> APIRouter:
    """What only gateways ask: they hide ``/internal`` from everybody else."""
    router = APIRouter(prefix="/internal", include_in_schema=False)

    @router.get("/ready")
    def ready() -> dict[str, dict[str, str]]:
        missing = {}
        for name, check in checks.items():
            try:
                reason = check()
            except Exception as error:  # noqa: BLE001  (whatever broke, it is not ready)
                reason = f"{type(error).__name__}: {error}"
            if reason is not None:
                missing[name] = reason
        return {"not_ready": missing}

    @router.get("/metrics")
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(own_metrics())

    return router


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


async def _on_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)
    return problem_response(error, request_id=_request_id(request))


async def _on_unexpected_error(request: Request, _: Exception) -> Response:
    return problem_response(INTERNAL, request_id=_request_id(request))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, "bad_request")
    headers = {k.lower().encode(): v.encode() for k, v in (error.headers or {}).items()}
    if code == "method_not_allowed":
        headers[b"allow"] = ", ".join(sorted(_methods(request))).encode()
    problem = problem_with_code(code, headers=tuple(headers.items()))
    return problem_response(problem, request_id=_request_id(request))


def _methods(request: Request) -> set[str]:
    """What the request's path may be asked with: the framework names its first route's only."""
    found = set[str]()
    for route in request.app.state.routes:
        if route.path_regex.match(request.scope["path"]):
            found |= route.methods or set()
    return found


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        problem = problem_with_code("invalid_body", detail="the body is not valid JSON")
    else:
        fields = tuple(
            FieldError(pointer=_pointer(each["loc"]), detail=str(each["msg"])) for each in found
        )
        first = f"{fields[0].pointer or 'the body'}: {fields[0].detail}" if fields else ""
        more = f" (and {len(fields) - 1} more)" if fields[1:] else ""
        problem = problem_with_code("invalid_request", detail=first + more, errors=fields)
    return problem_response(problem, request_id=_request_id(request))


def _pointer(loc: Sequence[str | int]) -> str:
    """Where an error is: a JSON pointer into the body, or ``?name`` for a query parameter."""
    place, rest = (loc[0], loc[1:]) if loc else ("body", ())
    match place:
        case "body":
            steps = (str(step).replace("~", "~0").replace("/", "~1") for step in rest)
            return "".join(f"/{step}" for step in steps)
        case "query":
            return "?" + ".".join(str(step) for step in rest)
        case _:
            return f"{place}:" + ".".join(str(step) for step in rest)


def _document_hot_paths(app: FastAPI, hot_paths: Mapping[str, Any]) -> None:
    """Make the OpenAPI document name the routes that never reach the worker, too."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        hoist_definitions(schema)
        for path, item in hot_paths.items():
            schema["paths"].setdefault(path, {}).update(item)
        lay_over(schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
