"""From an append-only list of statements to the catalog they make.

A statement about an object is laid over what was stated before: with ``effective_from`` it holds
from then on (until its ``effective_until``), without it replaces the whole chain. A retirement
ends the chain at the instant it was recorded. What a statement covers is replaced, the rest keeps
its values, cut where needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from catalog.clock import Micros, to_datetime
from catalog.grammar import Value, parse_value
from catalog.ids import Kind
from catalog.moments import moment_text, parse_moment
from catalog.pricebooks import Moment
from catalog.snapshot import Catalog, Chain, Version, resolve

__all__ = [
    "Kind",
    "Layer",
    "NewStatement",
    "StatedVersion",
    "Statement",
    "build_catalog",
    "chains_of",
    "extend_catalog",
    "lay_over",
    "versions_from_json",
    "versions_to_json",
]

Chains = Mapping[str, Chain[Value]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedVersion:
    """One version of a statement; ``body`` is canonical, without the object's effective times."""

    effective_from: Moment | None
    effective_until: Moment | None
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStatement:
    """A statement to append. ``retired`` has no versions; ``whole_chain`` replaces everything."""

    kind: Kind
    id: str
    retired: bool = False
    whole_chain: bool = True
    versions: tuple[StatedVersion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What was stated about one object at one recorded instant. ``revision`` counts from 1."""

    revision: int
    kind: Kind
    id: str
    recorded_at: Micros
    retired: bool
    whole_chain: bool
    versions: tuple[StatedVersion, ...]


def build_catalog(statements: Iterable[Statement], *, timezone: ZoneInfo) -> Catalog:
    """The catalog that ``statements``, in order of revision, make."""
    return extend_catalog(Catalog(timezone=timezone), statements)


def extend_catalog(catalog: Catalog, statements: Iterable[Statement]) -> Catalog:
    """``catalog`` with further ``statements``: only the objects they name are folded again.

    Equals :func:`build_catalog` of all statements, at the cost of the new ones.
    """
    return lay_over(catalog, [_layer(statement) for statement in statements])


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A statement as typed versions: what is laid over one object's chain."""

    kind: Kind
    id: str
    recorded_at: Micros
    revision: int
    retired: bool
    whole_chain: bool
    versions: tuple[Version[Value], ...]


def lay_over(catalog: Catalog, layers: Sequence[Layer]) -> Catalog:
    """``catalog`` with ``layers`` over it, in order."""
    if not layers:
        return catalog
    chains: dict[Kind, dict[str, Chain[Value]]] = {}
    for layer in layers:
        mine = chains.get(layer.kind)
        if mine is None:
            mine = chains[layer.kind] = dict(chains_of(catalog, layer.kind))
        before = mine.pop(layer.id, None)
        versions = _fold(before.versions if before else (), layer, catalog.timezone)
        if versions:
            mine[layer.id] = Chain(versions=versions)
    return replace(
        catalog,
        revision=layers[-1].revision,
        recorded_at=layers[-1].recorded_at,
        **{kind.value: held for kind, held in chains.items()},  # type: ignore[arg-type]
    )


def _layer(statement: Statement) -> Layer:
    return Layer(
        kind=statement.kind,
        id=statement.id,
        recorded_at=statement.recorded_at,
        revision=statement.revision,
        retired=statement.retired,
        whole_chain=statement.whole_chain,
        versions=tuple(
            Version(
                value=parse_value(statement.kind, statement.id, stated.body),
                effective_from=stated.effective_from,
                effective_until=stated.effective_until,
                recorded_at=statement.recorded_at,
                revision=statement.revision,
            )
            for stated in statement.versions
        ),
    )


def chains_of(catalog: Catalog, kind: Kind) -> Chains:
    """The chains of one family by id."""
    chains: Chains = getattr(catalog, kind.value)
    return chains


def _fold(
    before: Sequence[Version[Value]], layer: Layer, timezone: ZoneInfo
) -> tuple[Version[Value], ...]:
    if layer.retired:
        return overlay(before, None, since=to_datetime(layer.recorded_at), timezone=timezone)
    found: tuple[Version[Value], ...] = () if layer.whole_chain else tuple(before)
    for version in layer.versions:
        found = overlay(found, version, since=version.effective_from, timezone=timezone)
    return found


def overlay(
    versions: Sequence[Version[Value]],
    version: Version[Value] | None,
    *,
    since: Moment | None,
    timezone: ZoneInfo,
) -> tuple[Version[Value], ...]:
    """``versions`` with ``version`` over them from ``since`` on; None leaves a gap there."""
    until = version.effective_until if version else None
    kept = [
        _part(held, held.effective_from, _earlier(held.effective_until, since, timezone))
        for held in versions
        if since is not None
    ]
    after = [
        _part(held, _later(held.effective_from, until, timezone), held.effective_until)
        for held in versions
        if until is not None
    ]
    laid = [*kept, *([version] if version else []), *after]
    return tuple(held for held in laid if _lasts(held, timezone))


def _part(version: Version[Value], since: Moment | None, until: Moment | None) -> Version[Value]:
    return replace(version, effective_from=since, effective_until=until)


def _earlier(end: Moment | None, limit: Moment | None, timezone: ZoneInfo) -> Moment | None:
    if end is None or limit is None:
        return end if limit is None else limit
    return limit if resolve(limit, timezone) < resolve(end, timezone) else end


def _later(start: Moment | None, limit: Moment | None, timezone: ZoneInfo) -> Moment | None:
    if start is None or limit is None:
        return start if limit is None else limit
    return limit if resolve(limit, timezone) > resolve(start, timezone) else start


def _lasts(version: Version[Value], timezone: ZoneInfo) -> bool:
    since, until = version.effective_from, version.effective_until
    if since is None or until is None:
        return True
    return resolve(since, timezone) < resolve(until, timezone)


def versions_to_json(versions: Iterable[StatedVersion]) -> list[dict[str, object]]:
    """A statement's versions as JSON values, for whoever stores them."""
    return [
        {
            "effective_from": _text(version.effective_from),
            "effective_until": _text(version.effective_until),
            "body": dict(version.body),
        }
        for version in versions
    ]


def versions_from_json(trees: Iterable[Mapping[str, object]]) -> tuple[StatedVersion, ...]:
    """The inverse of :func:`versions_to_json`."""
    return tuple(
        StatedVersion(
            effective_from=_moment(tree["effective_from"]),
            effective_until=_moment(tree["effective_until"]),
            body=_body(tree["body"]),
        )
        for tree in trees
    )


def _text(moment: Moment | None) -> str | None:
    return None if moment is None else moment_text(moment)


def _moment(text: object) -> Moment | None:
    return None if text is None else parse_moment(str(text))


def _body(tree: object) -> Mapping[str, object]:
    if not isinstance(tree, Mapping):
        raise TypeError("a version's body is a mapping")
    return tree
