"""Talking to the other gateways of this machine, each on its private socket ``run/<node>.sock``.

Also what each of them answers there. No key is asked for: the directory is the owner's alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx
import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from api.hot.dispatch import respond, respond_json
from api.hot.metrics import own_metrics
from api.problems import INTERNAL, problem_of, problem_with_code, send_problem
from catalog.clock import Micros
from catalog.errors import DomainError
from ingest.voids import VoidItem, VoidOutcome

log = structlog.get_logger()

REFRESH_S_MAX = 0.5
VOID_S_MAX = 10.0
HEARTBEAT = "/internal/heartbeat/"


def node_socket(data: Path, node: str) -> Path:
    """Where ``node`` listens for its siblings and the worker."""
    return data / "run" / f"{node}.sock"


def log_is_open(socket: Path) -> bool:
    """Whether the gateway behind ``socket`` has its log open: no, where none answers in time."""
    transport = httpx.HTTPTransport(uds=str(socket))
    with httpx.Client(transport=transport, base_url="http://node", timeout=2.0) as client:
        try:
            reason: str | None = client.get("/internal/ready").json()["not_ready"]
        except httpx.HTTPError:
            return False
    return reason is None


class InternalApp:
    """What a gateway answers on its private socket.

    ``POST /internal/heartbeat/{µs}`` → ``{"received_at": µs}``: every record written before the
    call is durable and lies before it, and it is not before the given instant.
    ``POST /internal/refresh``: read the catalog and the keys again. ``POST /internal/void``: void
    what this gateway itself accepted. ``GET /internal/metrics``, ``GET /internal/ready``.
    """

    def __init__(
        self,
        *,
        heartbeat: Callable[[Micros], Awaitable[Micros]],
        void: Callable[[list[VoidItem]], Awaitable[VoidOutcome]],
        refresh: Callable[[], Awaitable[None]],
        ready: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._heartbeat = heartbeat
        self._void = void
        self._refresh = refresh
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._answer(scope, receive, send)
        except DomainError as error:
            await send_problem(send, problem_of(error), request_id="")
        except Exception:
            log.exception("internal_request_failed", path=scope["path"])
            await send_problem(send, INTERNAL, request_id="")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["method"], scope["path"]:
            case "POST", str(path) if path.startswith(HEARTBEAT):
                not_before = Micros(int(path.removeprefix(HEARTBEAT)))
                await respond_json(send, {"received_at": await self._heartbeat(not_before)})
            case "POST", "/internal/void":
                outcome = await self._void(_items.decode(await _read(receive)))
                await respond(send, _outcomes.encode(outcome), content_type=b"application/json")
            case "POST", "/internal/refresh":
                await self._refresh()
                await respond_json(send, {})
            case "GET", "/internal/metrics":
                await respond(send, own_metrics().encode(), content_type=b"text/plain")
            case "GET", "/internal/ready":
                await respond_json(send, {"not_ready": await self._ready()})
            case _:
                await send_problem(send, problem_with_code("not_found"), request_id="")


_items = msgspec.json.Decoder(list[VoidItem])
_outcomes = msgspec.json.Encoder()
_outcome = msgspec.json.Decoder(VoidOutcome)


async def _read(receive: Receive) -> bytes:
    """A whole body from a process of our own."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


class Sibling:
    """One other gateway."""

    def __init__(self, socket: Path) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://node", timeout=2.0)

    async def check(self) -> str | None:
        """Why it is not ready, or None."""
        try:
            answer = (await self._client.get("/internal/ready")).json()
        except httpx.HTTPError:
            return "not running"
        reason: str | None = answer["not_ready"]
        return reason

    async def metrics(self) -> str:
        """Its metrics."""
        return (await self._client.get("/internal/metrics")).text

    async def void(self, items: Sequence[VoidItem]) -> VoidOutcome:
        """Void what it accepted; nothing if it does not run or has no time for it."""
        try:
            content = _outcomes.encode(items)
            answer = await self._client.post("/internal/void", content=content, timeout=VOID_S_MAX)
            answer.raise_for_status()
        except httpx.HTTPError:
            return VoidOutcome(voided=0, already_void=0, unknown=items)
        return _outcome.decode(answer.content)

    async def refresh(self) -> None:
        """Make it read the catalog and the keys, if it runs."""
        try:
            await self._client.post("/internal/refresh", timeout=REFRESH_S_MAX)
        except httpx.HTTPError:
            log.debug("sibling_away")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class Siblings:
    """All the other gateways of this machine."""

    def __init__(self, data: Path, *, node: str, nodes: tuple[str, ...]) -> None:
        self._nodes = {name: Sibling(node_socket(data, name)) for name in nodes if name != node}

    async def check(self) -> str | None:
        """Which of them are not ready, or None."""
        reasons = await asyncio.gather(*(sibling.check() for sibling in self._nodes.values()))
        missing = [
            f"{name}: {reason}" for name, reason in zip(self._nodes, reasons, strict=True) if reason
        ]
        return "; ".join(missing) or None

    async def void(self, items: Sequence[VoidItem]) -> VoidOutcome:
        """Void what any of them accepted, each asked for what the ones before do not know."""
        outcome = VoidOutcome(voided=0, already_void=0, unknown=items)
        for sibling in self._nodes.values():
            if outcome.unknown:
                outcome = outcome.then(await sibling.void(outcome.unknown))
        return outcome

    async def refresh(self) -> None:
        """Make all of them read the catalog and the keys."""
        await asyncio.gather(*(sibling.refresh() for sibling in self._nodes.values()))

    def metrics(self) -> dict[str, Callable[[], Awaitable[str]]]:
        """How to ask each for its metrics."""
        return {name: sibling.metrics for name, sibling in self._nodes.items()}

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(sibling.close() for sibling in self._nodes.values()))
