"""How every command talks to a running service, and how it says what went wrong.

Exit codes: 0 done, 1 the service said no (or the answer is bad news), 2 it could not be asked.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx
import typer
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console
from rich.markup import escape

from catalog.errors import DomainError, FieldError

CONNECT_TIMEOUT_S = 5.0
# A closing month or a simulation may take minutes; a dead connection is noticed by the socket.
ANSWER_TIMEOUT_S = 600.0
PAGE_LIMIT = 1_000
EXIT_REFUSED = 1
EXIT_NOT_ASKED = 2

Params = Mapping[str, str | int | bool | None]


class ClientSettings(BaseSettings):
    """Where the service is and the key to it: ``TALLYMAN_URL``, ``TALLYMAN_KEY``."""

    model_config = SettingsConfigDict(
        env_prefix="TALLYMAN_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    url: str = Field(default="http://127.0.0.1:8080", pattern=r"^https?://")
    key: SecretStr | None = None


class InvalidSettings(DomainError):
    """The environment does not say where to ask, or with which key."""

    code = "invalid_settings"


class Unreachable(DomainError):
    """Nobody answered. Whether a request that changes something took effect is unknown."""

    code = "unreachable"


class ApiProblem(DomainError):
    """The service answered with an error. ``problem`` is its document, as far as it sent one."""

    code = "api_problem"

    def __init__(self, *, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        detail = problem.get("detail") or problem.get("title") or "no explanation"
        errors = [
            FieldError(pointer=str(each.get("pointer", "")), detail=str(each.get("detail", "")))
            for each in problem.get("errors", ())
            if isinstance(each, Mapping)
        ]
        super().__init__(f"{detail} ({status} {problem.get('code', 'error')})", errors=errors)


class ApiClient:
    """JSON over HTTP with the key in place. Use as a context manager."""

    def __init__(
        self, url: str, key: str | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout, transport=transport
        )

    @classmethod
    def from_environment(cls) -> Self:
        """A client for ``TALLYMAN_URL`` with ``TALLYMAN_KEY``.

        Raises:
            InvalidSettings: one of them cannot be what it should be.
        """
        try:
            settings = ClientSettings()
            httpx.URL(settings.url)
        except (ValidationError, httpx.InvalidURL) as error:
            raise InvalidSettings("TALLYMAN_URL is no http:// or https:// address") from error
        key = None if settings.key is None else settings.key.get_secret_value()
        if key is not None and not (key.isascii() and key.isprintable()):
            raise InvalidSettings("TALLYMAN_KEY is no key: a key is printable ASCII in one line")
        return cls(settings.url, key)

    def many(self, count: int) -> list[httpx.AsyncClient]:
        """Clients of the same service with the same key, a connection each.

        One client with many connections would look through all of them for every request.
        """
        limits = httpx.Limits(max_connections=1)
        context = ssl.create_default_context()  # once: it reads every certificate there is
        return [
            httpx.AsyncClient(
                base_url=self._http.base_url,
                headers=self._http.headers,
                timeout=self._http.timeout,
                limits=limits,
                verify=context,
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, params: Params | None = None) -> Any:
        """The JSON at ``path``. Parameters that are None are left out."""
        return _json(self.send("GET", path, params=params))

    def get_bytes(
        self, path: str, params: Params | None = None, *, accept: str
    ) -> tuple[bytes, httpx.Headers]:
        """The body at ``path`` in another format, and the headers that describe it."""
        response = self.send("GET", path, params=params, headers={"accept": accept})
        return response.content, response.headers

    def post(self, path: str, body: Any = None, params: Params | None = None) -> Any:
        """What posting ``body`` as JSON answers; None for an empty answer."""
        return _json(self.send("POST", path, params=params, body=body))

    def post_bytes(
        self, path: str, content: bytes, *, content_type: str, params: Params | None = None
    ) -> Any:
        """What posting raw ``content`` answers, as JSON."""
        headers = {"content-type": content_type}
        return _json(self.send("POST", path, params=params, content=content, headers=headers))

    def put(self, path: str, body: Any) -> Any:
        """What putting ``body`` as JSON answers."""
        return _json(self.send("PUT", path, body=body))

    def delete(self, path: str) -> Any:
        """What deleting ``path`` answers; None for an empty answer."""
        return _json(self.send("DELETE", path))

    def items(self, path: str, params: Params | None = None) -> Iterator[Any]:
        """Every item of a list, page after page."""
        cursor = None
        while True:
            page = self.get(path, {**(params or {}), "limit": PAGE_LIMIT, "cursor": cursor})
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """One request; a successful response, read to its end.

        Raises:
            ApiProblem: the service answered 4xx or 5xx.
            Unreachable: no answer.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        sent = dict(headers or {})
        if body is not None:
            content = json.dumps(body, ensure_ascii=False).encode()
            sent["content-type"] = "application/json"
        try:
            response = self._http.request(method, path, params=given, headers=sent, content=content)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise ApiProblem(status=response.status_code, problem=_problem(response))
        return response

    def _unreachable(self, error: Exception) -> Unreachable:
        where = str(self._http.base_url).rstrip("/")
        if isinstance(error, httpx.ConnectError):
            return Unreachable(
                f"nothing answers at {where}; start it with `tallyman serve`, "
                "or set TALLYMAN_URL to where it runs"
            )
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"{where} did not answer in time")
        return Unreachable(f"the connection to {where} failed: {error or type(error).__name__}")


@contextmanager
def errors_shown(console: Console | None = None) -> Iterator[None]:
    """Around a command's work: an anticipated error becomes a few lines and an exit code."""
    try:
        yield
    except DomainError as error:
        show_error(error, console or Console(stderr=True))
        unasked = isinstance(error, Unreachable | InvalidSettings)
        raise typer.Exit(EXIT_NOT_ASKED if unasked else EXIT_REFUSED) from error


def show_error(error: DomainError, console: Console) -> None:
    """Print what went wrong, one line for each wrong field, and what to do where that is known."""
    console.print(f"[red]error:[/red] {escape(error.detail)}", soft_wrap=True)
    for field in error.errors:
        console.print(
            f"  {escape(field.pointer or '(all)')}: {escape(field.detail)}", soft_wrap=True
        )
    status = error.status if isinstance(error, ApiProblem) else None
    if status == httpx.codes.UNAUTHORIZED:
        console.print("  Set TALLYMAN_KEY to a key of this service.")


def _json(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise Unreachable(f"{response.request.url} answered something that is not JSON") from error


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    try:
        document = response.json()
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    return {"title": response.reason_phrase or "error", "detail": response.text[:200].strip()}
