"""What ``tallyman serve`` does before and around supervising: lock, layout, first key, socket."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from api.datadir import ServiceLock, prepare_data
from api.logs import configure_logs
from api.serving import BACKLOG
from api.settings import Settings, child_environment
from api.supervisor import ChildSpec, Supervisor
from catalog.clock import Clock
from catalog.errors import DomainError
from catalog.keys import RANDOM_BYTES, KeyId, KeyRecord, Scope, key_digest, make_key
from storage.sql.database import open_database
from storage.sql.keys import KeyStore

Say = Callable[[str], None]


class PortTaken(DomainError):
    """Something else listens there, or the address is not this machine's."""

    code = "port_taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """When a kind of child stops, and how much of the whole time it gets."""

    order: int
    share: float


# Gateways first: what is in flight still needs the worker and the ledger.
_GATEWAYS = _Stage(order=1, share=0.6)
_WORKER = _Stage(order=2, share=0.3)
_LEDGER = _Stage(order=3, share=0.1)


def serve(settings: Settings, *, say: Say) -> int:
    """Serve until SIGTERM or SIGINT; answers the exit code.

    Raises:
        DomainError: it cannot be served here or like this; nothing was started.
    """
    configure_logs(settings, process="supervisor")
    with ServiceLock(settings.data) as lock:
        clock = prepare_data(settings, say)
        made = ensure_first_key(settings, clock)
        listener = listen(settings.host, settings.port)
        url = _url(listener)
        (settings.data / "run" / "url").write_text(url + "\n")
        _announce(say, settings, url=url, made_key=made)
        specs = child_specs(settings, lock=lock.descriptor, listener=listener.fileno())
        supervisor = Supervisor(
            specs, environment=child_environment(settings), stop_s_max=settings.stop_s_max
        )
        return supervisor.run(on_stop=listener.close)


def ensure_first_key(settings: Settings, clock: Clock) -> str | None:
    """Store the configured admin key, or make one if there are no keys at all.

    Answers the text of a key it made. A configured key that was revoked stays revoked.
    """
    database = open_database(sql_url(settings))
    try:
        keys = KeyStore(database, clock)
        if settings.admin_key is not None:
            text = settings.admin_key.get_secret_value()
            _add_admin(keys, KeyId(f"configured-{key_digest(text).hex()[:12]}"), text, clock)
            return None
        if keys.all():
            return None
        identity, text = make_key(secrets.token_bytes(RANDOM_BYTES))
        _add_admin(keys, identity, text, clock)
        return text
    finally:
        database.close()


def sql_url(settings: Settings) -> str:
    """Where SQL is: the configured URL, or a file in the data directory."""
    if settings.sql_url is not None:
        return settings.sql_url.get_secret_value()
    return f"sqlite:///{settings.data.absolute() / 'catalog.sqlite'}"


def worker_socket(data: Path) -> Path:
    """Where the worker listens for the gateways."""
    return data / "run" / "worker.sock"


def ledger_socket(data: Path) -> Path:
    """Where the private Valkey listens."""
    return data.absolute() / "run" / "valkey.sock"


def ledger_url(settings: Settings) -> str:
    """Where the entitlement ledger is: the configured URL, or the private Valkey's socket."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return f"unix://{ledger_socket(settings.data)}"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket for all gateways to share.

    Raises:
        PortTaken: it cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


def child_specs(settings: Settings, *, lock: int, listener: int) -> list[ChildSpec]:
    """The processes of the service: the ledger (unless a URL is set), the worker, the gateways."""
    specs = []
    if settings.redis_url is None:
        from storage.redis.valkey import valkey_command  # noqa: PLC0415  (not with a URL)

        argv = tuple(valkey_command(ledger_socket(settings.data)))
        specs.append(_spec("valkey", argv, _LEDGER, lock))
    python = (sys.executable, "-m")
    specs.append(_spec("worker", (*python, "api.worker"), _WORKER, lock))
    specs += [
        _spec(node, (*python, "api.gateway", node, str(listener)), _GATEWAYS, lock, listener)
        for node in settings.nodes
    ]
    return specs


def _spec(name: str, argv: tuple[str, ...], stage: _Stage, *descriptors: int) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=argv,
        stage=stage.order,
        stop_share=stage.share,
        descriptors=descriptors,
    )


def _add_admin(keys: KeyStore, identity: KeyId, text: str, clock: Clock) -> None:
    keys.add(
        KeyRecord(
            id=identity,
            digest=key_digest(text),
            name="first key",
            scopes=frozenset({Scope.ADMIN}),
            created_at=clock.now_us(),
        )
    )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(say: Say, settings: Settings, *, url: str, made_key: str | None) -> None:
    say(f"Tallyman serves {url}{' (sandbox)' if settings.sandbox else ''}")
    say(f"data directory: {settings.data.absolute()}")
    if made_key is not None:
        say(f"admin key (shown this once): {made_key}")
