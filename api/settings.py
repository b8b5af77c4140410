"""Every setting of the service, with its bounds: one frozen tree, read from ``TALLYMAN_*``.

The only module that reads the environment. The supervisor hands its children the whole tree as
environment variables (:meth:`Settings.environment`), so that what the command line changed holds
for them too. Lower packages never see this: they are handed plain values by ``api/wiring``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.allocating import with_kept_pages

PREFIX = "TALLYMAN_"
NESTED = "__"
KIB, MIB, GIB = 1024, 1024**2, 1024**3

FEATURES = r"^(\s*[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\s*(,|$))*$"

AdminKey = Annotated[SecretStr, Field(min_length=32, max_length=512)]


class Limits(BaseModel):
    """What a request, a connection or a queue may be at most (``TALLYMAN_LIMITS__…``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    body_bytes_max: int = Field(default=16 * MIB, ge=KIB, le=GIB)
    """Of a request's body as sent."""
    inflated_bytes_max: int = Field(default=64 * MIB, ge=KIB, le=4 * GIB)
    """Of a compressed body, inflated."""
    inflation_ratio_max: int = Field(default=100, ge=1, le=10_000)
    """How many times larger than sent a body may inflate."""
    events_per_body_max: int = Field(default=50_000, ge=1, le=1_000_000)
    """Events in one body."""
    event_bytes_max: int = Field(default=64 * KIB, ge=KIB, le=MIB)
    """Of one event."""
    header_bytes_max: int = Field(default=16 * KIB, ge=KIB, le=MIB)
    """Of a request's headers, the first line included."""
    header_s_max: float = Field(default=10, gt=0, le=600)
    """Until the headers are there."""
    body_s_max: float = Field(default=60, gt=0, le=3_600)
    """Until the body is there."""
    body_bytes_per_s_min: int = Field(default=KIB, ge=0, le=GIB)
    """How fast a body must come on average, looked at every 5 s; 0 leaves it to the deadline."""
    answer_s_max: float = Field(default=60, gt=0, le=3_600)
    """Until a caller has taken the next 32 KiB of an answer, or its end."""
    idle_s_max: float = Field(default=30, gt=0, le=3_600)
    """A connection without a request is closed after this."""
    connections_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Open connections of one gateway."""
    connections_per_peer_max: int = Field(default=15_000, ge=1, le=1_000_000)
    """Of these, from one address (IPv6: one /64). A load balancer is one; lower it without one."""
    relays_max: int = Field(default=64, ge=1, le=10_000)
    """Requests one gateway has at the worker at once."""
    relay_queue_max: int = Field(default=1_024, ge=0, le=100_000)
    """Requests waiting for that; more are `overloaded`."""
    relay_s_max: float = Field(default=300, gt=0, le=3_600)
    """Until the worker must have answered."""
    queue_events_max: int = Field(default=500_000, ge=1, le=10_000_000)
    """Events waiting to be written; more are `backpressure`."""
    queue_bytes_max: int = Field(default=256 * MIB, ge=MIB, le=64 * GIB)
    """The same in bytes; bodies under way count."""


class LogSettings(BaseModel):
    """The log and its segments (``TALLYMAN_LOG__…``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    hot_bytes_max: int = Field(default=128 * MIB, ge=64 * KIB, le=16 * GIB)
    """A hot file is closed, then sealed into Parquet, beyond this size."""
    hot_age_s_max: int = Field(default=3_600, ge=1, le=86_400)
    """The same, by age."""
    window_days: int = Field(default=35, ge=1, le=3_650)
    """How long an identity alone tells a copy, in days of receipt; after it the day of `time`."""


class InvoicingSettings(BaseModel):
    """Invoices (``TALLYMAN_INVOICING__…``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    grouping: Literal["contract", "customer", "parent"] = "contract"
    """Whose lines of one billing period share an invoice."""
    grace_hours: int = Field(default=0, ge=0, le=24 * 60)
    """How long an ended billing period stays a draft, for what comes late."""


class Outbound(BaseModel):
    """What leaves the service (``TALLYMAN_OUTBOUND__…``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    folder: Path | None = None
    """Below it are the folders that exports write to; `exports` in the data directory without."""
    allow: str = Field(default="", max_length=10_000)
    """Networks inside, by commas (`10.1.0.0/16`), that webhooks may reach; others never."""
    timeout_s_max: float = Field(default=15, gt=0, le=300)
    """Of one webhook, from looking up the name to the end of the answer."""
    body_bytes_max: int = Field(default=8 * MIB, ge=KIB, le=GIB)
    """Of one webhook."""
    attempts_max: int = Field(default=12, ge=1, le=100)
    """Deliveries that fail before a run is dead, until it is replayed."""
    backoff_s_min: float = Field(default=5, gt=0, le=3_600)
    """After the first that fails; twice as long after each."""
    backoff_s_max: float = Field(default=3_600, gt=0, le=86_400)
    """The longest such pause."""

    @field_validator("allow")
    @classmethod
    def _networks(cls, text: str) -> str:
        for part in filter(None, map(str.strip, text.split(","))):
            ip_network(part)
        return text


class Settings(BaseSettings):
    """The whole tree. Built once a process, by :func:`read_settings` or a test.

    URLs may hold a password, hence ``SecretStr``. ``node`` is the prefix of the node names:
    gateway i of this machine is node ``<node><i>``; two machines need two prefixes.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
    )

    data: Path = Path("tallyman-data")
    """The data directory."""
    host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    """The address to listen on. TLS is the load balancer's job."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """The port; 0 takes a free one."""
    gateways: int = Field(default=1, ge=1, le=64)
    """Gateway processes; each is a node with a log of its own."""
    node: str = Field(default="n", pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,31}$")
    """The prefix of the nodes' names; another one on every machine."""
    admin_key: AdminKey | None = None
    """The first key; else one is made and shown once."""
    sql_url: SecretStr | None = None
    """PostgreSQL, as `postgresql+psycopg://…`; SQLite in the data directory without."""
    clickhouse_url: SecretStr | None = None
    """ClickHouse over HTTP; chDB in the data directory without."""
    redis_url: SecretStr | None = None
    """Redis or Valkey; a private Valkey without."""
    timezone: str = "UTC"
    """Whose calendar holds where a contract names none (IANA)."""
    sandbox: bool = False
    """The clock stands still and is moved by hand."""
    now: AwareDatetime | None = None
    """Where a new sandbox's clock begins."""
    rate_from: Literal["cells", "parquet", "clickhouse"] = "cells"
    """Where rating takes its quantities: the same totals whichever it is."""
    allow_without_ledger: str = Field(default="", max_length=10_000, pattern=FEATURES)
    """Features, by commas, whose hard limits let pass while Redis is slow or away."""
    metrics_public: bool = True
    """Whether `/metrics` needs no key."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is written to stderr."""
    log_format: Literal["console", "json"] = "console"
    """For people or as JSON lines."""
    snapshot_poll_ms: int = Field(default=250, ge=10, le=10_000)
    """How often a gateway looks for a new catalog and keys."""
    heartbeat_ms: int = Field(default=1_000, ge=10, le=60_000)
    """How often an idle node writes that it is alive."""
    stop_s_max: float = Field(default=20, ge=1, le=600)
    """How long requests under way may take when the service stops."""
    limits: Limits = Limits()
    log: LogSettings = LogSettings()
    invoicing: InvoicingSettings = InvoicingSettings()
    outbound: Outbound = Outbound()

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"no such time zone: {name!r}")
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The service's time zone."""
        return ZoneInfo(self.timezone)

    @property
    def allowed_without_ledger(self) -> frozenset[str]:
        """The features that are allowed while the ledger is slow or away."""
        names = (name.strip() for name in self.allow_without_ledger.split(","))
        return frozenset(name for name in names if name)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of this machine's nodes, one a gateway."""
        return tuple(f"{self.node}{index}" for index in range(1, self.gateways + 1))

    def environment(self) -> dict[str, str]:
        """This tree as environment variables: reading them back gives an equal tree.

        The admin key is left out: only the supervisor needs it.
        """
        values = dict(_flatten(self, PREFIX))
        values.pop(f"{PREFIX}ADMIN_KEY", None)
        return values


def read_settings(**overrides: object) -> Settings:
    """The settings of this process: ``overrides`` (None means not given) over the environment.

    Raises:
        pydantic.ValidationError: a value is out of its bounds.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    return Settings(**given)  # type: ignore[arg-type]


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of a child: this process's, with ``settings`` instead of its TALLYMAN_*."""
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  (this module is the exception)
        if not name.upper().startswith(PREFIX)
    }
    return with_kept_pages(inherited) | settings.environment()


def _flatten(model: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if value is None:
            continue
        if isinstance(value, BaseModel):
            yield from _flatten(value, f"{prefix}{name.upper()}{NESTED}")
        else:
            yield f"{prefix}{name.upper()}", _text(value)


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        raise TypeError("a setting must have a flat text form")
    return str(value)
