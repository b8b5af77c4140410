"""The gateway's front door, in plain ASGI: who asks, what for, and errors as problems.

Hot paths are found by a dictionary look-up (a few have path parameters) and everything else is
relayed. Nothing here parses a body.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import auth
from api.auth import Keyring, Principal
from api.problems import INTERNAL, problem_of, send_problem
from api.reach import check_reach
from api.relay import ClientGone
from catalog.errors import DomainError, NotFound

log = structlog.get_logger()

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
"""What a caller may name a request; anything else gets a name of ours."""
_INTERNAL = "/internal"
_RELAYED_TOO = {"/v1/events": ("GET",)}
"""Paths with hot methods that the worker answers for other methods."""
Observe = Callable[[str, str, int, float], None]
"""Told (method, route, status, seconds) of every answer."""


class MethodNotAllowed(DomainError):
    """The path is there, for other methods."""

    code = "method_not_allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = tuple(sorted(allowed))
        super().__init__(f"allowed: {', '.join(self.allowed)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hot:
    """One hot route. ``path`` may have ``{name}`` segments; ``open`` needs no key."""

    method: str
    path: str
    handler: ASGIApp
    open: bool = False


class Routes:
    """Hot routes by method and path. Filled while the gateway starts; ``revision`` counts that."""

    def __init__(self, routes: Iterable[Hot] = ()) -> None:
        self._exact: dict[tuple[str, str], Hot] = {}
        self._templates: dict[tuple[str, int], list[tuple[Hot, list[str]]]] = {}
        self.revision = 0
        for route in routes:
            self.add(route)

    def add(self, route: Hot) -> None:
        """Add ``route``, replacing one of the same method and path."""
        self.revision += 1
        if "{" not in route.path:
            self._exact[route.method, route.path] = route
            return
        segments = route.path.split("/")
        bucket = self._templates.setdefault((route.method, len(segments)), [])
        bucket[:] = [(held, parts) for held, parts in bucket if held.path != route.path]
        bucket.append((route, segments))

    def find(self, method: str, scope: Scope) -> Hot | None:
        """The route of a request; puts its path parameters into the scope.

        Parameters are split from the undecoded path: an encoded slash is part of one. HEAD is
        answered like GET; the server leaves the body out.
        """
        method = "GET" if method == "HEAD" else method
        found = self._exact.get((method, scope["path"]))
        if found is not None:
            return found
        given = scope["raw_path"].decode("latin-1").split("/")
        for route, segments in self._templates.get((method, len(given)), ()):
            pairs = list(zip(segments, given, strict=True))
            if all(want == have or want[:1] == "{" for want, have in pairs):
                scope["path_params"] = {
                    want[1:-1]: unquote(have) for want, have in pairs if want[:1] == "{"
                }
                return route
        return None

    def refuse_method(self, method: str, scope: Scope) -> None:
        """Refuse what is to be relayed where only other methods are hot.

        Raises:
            MethodNotAllowed: the worker has nothing at this path.
        """
        methods = {held for held, _ in (*self._exact, *self._templates)}
        hot = {each for each in methods if self.find(each, scope) is not None}
        also = _RELAYED_TOO.get(scope["path"], ())
        if hot and method not in also:
            raise MethodNotAllowed({*hot, *also})


class Dispatcher:
    """The ASGI application of a gateway."""

    def __init__(
        self,
        *,
        routes: Routes,
        fallback: ASGIApp,
        keyring: Callable[[], Keyring],
        look_again: Callable[[], Awaitable[None]],
        observe: Observe,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Wire the front door.

        Args:
            routes: the hot routes; ones added later count from then on.
            fallback: answers everything else.
            keyring: the current keys.
            look_again: refreshes the keyring, for a key that is not in it.
            observe: told of every answer.
            headers: sent with every answer.
        """
        self._routes = routes
        self._fallback = fallback
        self._keyring = keyring
        self._look_again = look_again
        self._observe = observe
        self._headers = tuple(headers)
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        began_s = time.perf_counter()
        request_id = self._request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, (*self._headers, (b"x-request-id", request_id.encode())))
        route = "relayed"
        try:
            hot = self._routes.find(scope["method"], scope)
            route = hot.path if hot else route
            await self._admit(scope, hot)
            if hot is None:
                self._routes.refuse_method(scope["method"], scope)
            await (hot.handler if hot else self._fallback)(scope, receive, answer)
        except ClientGone:
            pass
        except DomainError as error:
            if answer.status:  # too late for another answer: break the connection off
                raise
            await send_problem(answer, problem_of(error), request_id=request_id)
        except Exception:
            log.exception("request_failed", request_id=request_id, path=scope["path"])
            if answer.status:
                raise
            await send_problem(answer, INTERNAL, request_id=request_id)
        finally:
            seconds = time.perf_counter() - began_s
            self._observe(scope["method"], route, answer.status or 499, seconds)

    async def _admit(self, scope: Scope, hot: Hot | None) -> None:
        """Find out who asks, and whether they may.

        Raises:
            Unauthenticated, Forbidden: no.
        """
        path = scope["path"]
        if hot is None and path.startswith(_INTERNAL):
            raise NotFound("there is nothing here")
        if hot is not None and hot.open:
            return
        principal = await self._principal(auth.bearer_key(scope["headers"]))
        scope["state"]["principal"] = principal
        # Both forms of the path, so that an encoded slash cannot hide which route is meant.
        for form in (path, scope["raw_path"].decode("latin-1")):
            auth.require(principal, auth.scopes_for(scope["method"], form))
        if principal.limited:
            check_reach(principal, scope)

    async def _principal(self, key: str) -> Principal:
        found = self._keyring().find(key)
        if found is None and not auth.is_damaged(key):
            await self._look_again()
            found = self._keyring().find(key)
        if found is None:
            raise auth.Unauthenticated("the key is not known, or no longer valid")
        return found

    def _request_id(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                return str(value.decode())
        return f"{self._prefix}-{next(self._count):x}"


class _Answer:
    """``send`` with the common headers, remembering the status (0: nothing sent yet)."""

    __slots__ = ("_headers", "_send", "status")

    def __init__(self, send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
        await self._send(message)


async def respond_json(send: Send, content: object, *, status: int = 200) -> None:
    """Send ``content`` as the whole answer."""
    await respond(send, orjson.dumps(content), content_type=b"application/json", status=status)


async def respond(send: Send, body: bytes, *, content_type: bytes, status: int = 200) -> None:
    """Send ``body`` as the whole answer."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
