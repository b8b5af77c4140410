"""What a destination is: what it takes, what that becomes, where it goes, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

ExportId = NewType("ExportId", str)


class Transport(StrEnum):
    """Where the bytes go: into a folder, or to a URL."""

    FILES = "files"
    WEBHOOK = "webhook"


class Every(StrEnum):
    """When a destination runs by itself: when a month is closed, or never."""

    CLOSE = "close"
    MANUAL = "manual"


class Start(StrEnum):
    """Where a new destination begins: at the first line ever, or after the last there is."""

    BEGINNING = "beginning"
    NOW = "now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Values that pass, or (``excluded``) values that do not. A null passes only the latter."""

    values: tuple[str, ...]
    excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which lines a destination takes: those that pass every choice it names."""

    products: Choice | None = None
    entities: Choice | None = None
    currencies: Choice | None = None
    kinds: Choice | None = None
    customers: Choice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of what is sent: a document's ``source`` column, or a constant ``value``."""

    name: str
    source: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When it runs: on an occasion, or ``every_minutes``."""

    every: Every | None = None
    every_minutes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One declared destination.

    ``document`` and ``format`` name adapters. ``columns`` null means all of the document's.
    ``options`` are the document's own, as its adapter reads them. ``batch`` is how many positions
    one delivery covers at most. ``secrets`` sign webhooks, the newest first.
    """

    id: ExportId
    kind: Transport
    document: str = "lines"
    format: str = ""
    filter: Filter = Filter()
    columns: tuple[Column, ...] | None = None
    options: tuple[tuple[str, object], ...] = ()
    schedule: Schedule = field(default_factory=lambda: Schedule(every=Every.CLOSE))
    batch: int | None = None
    start: Start = Start.BEGINNING
    folder: str | None = None
    url: str | None = None
    secrets: tuple[str, ...] = ()
