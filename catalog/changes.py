"""What applying a document would do: the difference, the statements to append, the warnings.

Planning changes nothing. A document with any mistake, or one that would leave the catalog with
objects that do not fit each other, is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from catalog.checks import check_catalog, double_pricing, is_live
from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.errors import NotFound
from catalog.grammar import Document, Stated, StatedObject, render, render_version
from catalog.grammar.nodes import Problems
from catalog.grammar.objects import Value
from catalog.history import Layer, NewStatement, StatedVersion, chains_of, lay_over
from catalog.ids import CustomerId, Kind
from catalog.pricebooks import Moment, Price
from catalog.references import Counted, counted_meters, prices_of, stages
from catalog.snapshot import Catalog, Chain, Version

Action = Literal["create", "update", "unchanged", "retire"]
Unsupported = Callable[[Price | Contract | Counted], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one object. ``before`` and ``after`` are its canonical documents.

    ``before`` is null for what is new (or was retired), ``after`` for what is retired.
    """

    kind: Kind
    id: str
    action: Action
    before: dict[str, object] | None
    after: dict[str, object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The effect of a document. ``statements`` is empty where nothing would change.

    ``catalog`` is what the catalog would be, for previews; its revision is provisional.
    """

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    statements: tuple[NewStatement, ...]
    catalog: Catalog


def supported(_: Price | Contract | Counted) -> list[str]:
    """Everything the grammar knows is supported."""
    return []


def plan(
    catalog: Catalog,
    document: Document,
    *,
    prune: bool = False,
    unsupported: Unsupported = supported,
    now: Micros | None = None,
) -> Plan:
    """What applying ``document`` to ``catalog`` would do.

    Args:
        catalog: as it stands.
        document: upserted; it removes nothing by itself.
        prune: retire every object in force that the document does not name.
        unsupported: what the engines cannot do yet about a price, a contract, or a meter that a
            price counts, in words.
        now: tells what is over; default when the catalog was last stated.

    Raises:
        InvalidDocument: an object that does not fit the others, or is not supported.
    """
    instant = catalog.recorded_at if now is None else now
    stated = [_layer(catalog, held, instant) for held in document.objects]
    laid = lay_over(catalog, stated)
    stated = [layer for layer in stated if _differs(catalog, laid, layer)]
    retired = _pruned(catalog, document, instant) if prune else []
    after = lay_over(lay_over(catalog, stated), retired)
    pointers = {
        id(version.value): version.pointer for held in document.objects for version in held.versions
    }
    problems = _not_supported(document, unsupported)
    _not_countable(problems, document, after, unsupported)
    _no_more_countable(problems, document, after, unsupported)
    only = _suspects(stated, retired)
    for error in check_catalog(after, now=instant, pointers=pointers, only=only):
        problems.note(error.pointer, error.detail)
    problems.raise_if_any()
    return Plan(
        changes=(
            *(_change(catalog, after, held, instant) for held in document.objects),
            *(_retirement(catalog, layer) for layer in retired),
        ),
        warnings=tuple(double_pricing(after, customers=_touched(after, stated))),
        statements=tuple(_statement(layer) for layer in (*stated, *retired)),
        catalog=after,
    )


def plan_retirement(
    catalog: Catalog,
    kind: Kind,
    id: str,  # noqa: A002
    *,
    now: Micros | None = None,
) -> Plan:
    """What retiring one object would do.

    Raises:
        NotFound: there is no such object in force, now or later.
        InvalidDocument: another object in force still names it.
    """
    instant = catalog.recorded_at if now is None else now
    if not is_live(chains_of(catalog, kind).get(id), instant, catalog.timezone):
        raise NotFound(f"there is no '{id}' among {kind.value}")
    layer = _gone(catalog, kind, id, instant)
    after = lay_over(catalog, [layer])
    problems = Problems()
    for error in check_catalog(after, now=instant):
        problems.note(error.pointer, error.detail)
    problems.raise_if_any()
    return Plan(
        changes=(_retirement(catalog, layer),),
        warnings=(),
        statements=(_statement(layer),),
        catalog=after,
    )


def render_chain(kind: Kind, chain: Chain[Value]) -> dict[str, object]:
    """An object's chain as a document states it: the object alone, or ``{versions: […]}``."""
    versions = chain.versions
    first = versions[0]
    if len(versions) == 1 and first.effective_from is None:
        return render_version(kind, first.value, since=None, until=first.effective_until)
    following = [version.effective_from for version in versions[1:]]
    written = []
    for version, begin in zip(versions, [*following, None], strict=True):
        until = version.effective_until if version.effective_until != begin else None
        since = version.effective_from
        written.append(render_version(kind, version.value, since=since, until=until))
    return {"versions": written}


def _layer(catalog: Catalog, held: StatedObject, now: Micros) -> Layer:
    revision = catalog.revision + 1
    return Layer(
        kind=held.kind,
        id=held.id,
        recorded_at=now,
        revision=revision,
        retired=False,
        whole_chain=held.whole_chain,
        versions=tuple(_version(stated, now, revision) for stated in held.versions),
    )


def _version(stated: Stated, now: Micros, revision: int) -> Version[Value]:
    return Version(
        value=stated.value,
        effective_from=stated.effective_from,
        effective_until=stated.effective_until,
        recorded_at=now,
        revision=revision,
    )


def _gone(catalog: Catalog, kind: Kind, id: str, now: Micros) -> Layer:  # noqa: A002
    return Layer(
        kind=kind,
        id=id,
        recorded_at=now,
        revision=catalog.revision + 1,
        retired=True,
        whole_chain=True,
        versions=(),
    )


def _statement(layer: Layer) -> NewStatement:
    return NewStatement(
        kind=layer.kind,
        id=layer.id,
        retired=layer.retired,
        whole_chain=layer.whole_chain,
        versions=tuple(
            StatedVersion(
                effective_from=version.effective_from,
                effective_until=version.effective_until,
                body=render(layer.kind, version.value),
            )
            for version in layer.versions
        ),
    )


def _differs(before: Catalog, after: Catalog, layer: Layer) -> bool:
    old = chains_of(before, layer.kind).get(layer.id)
    new = chains_of(after, layer.kind).get(layer.id)
    return _course(old) != _course(new)


def _course(chain: Chain[Value] | None) -> list[tuple[Moment | None, Moment | None, Value]]:
    """What holds when, versions that say the same and touch taken as one."""
    course: list[tuple[Moment | None, Moment | None, Value]] = []
    for version in chain.versions if chain else ():
        since, until, value = version.effective_from, version.effective_until, version.value
        if course and since is not None and course[-1][1:] == (since, value):
            course[-1] = (course[-1][0], until, value)
        else:
            course.append((since, until, value))
    return course


def _pruned(catalog: Catalog, document: Document, now: Micros) -> list[Layer]:
    named = {(held.kind, held.id) for held in document.objects}
    return [
        _gone(catalog, kind, name, now)
        for kind in reversed(Kind)
        for name, chain in sorted(chains_of(catalog, kind).items())
        if (kind, name) not in named and is_live(chain, now, catalog.timezone)
    ]


def _change(before: Catalog, after: Catalog, held: StatedObject, now: Micros) -> Change:
    old = chains_of(before, held.kind).get(held.id)
    new = chains_of(after, held.kind).get(held.id)
    action: Action = "update"
    if _course(old) == _course(new):
        action = "unchanged"
    elif not is_live(old, now, before.timezone):
        action, old = "create", None
    return Change(
        kind=held.kind,
        id=held.id,
        action=action,
        before=None if old is None else render_chain(held.kind, old),
        after=None if new is None else render_chain(held.kind, new),
    )


def _retirement(catalog: Catalog, layer: Layer) -> Change:
    before = chains_of(catalog, layer.kind)[layer.id]
    written = render_chain(layer.kind, before)
    return Change(kind=layer.kind, id=layer.id, action="retire", before=written, after=None)


def _not_supported(document: Document, unsupported: Unsupported) -> Problems:
    problems = Problems()
    for held in document.objects:
        for version in held.versions:
            for path, thing in _rated(version.value):
                for detail in unsupported(thing):
                    problems.note(f"{version.pointer}{path}", detail)
    return problems


def _not_countable(
    problems: Problems, document: Document, after: Catalog, unsupported: Unsupported
) -> None:
    """Note meters that a price of the document cannot count."""
    for held in document.objects:
        for version in held.versions:
            for path, price in prices_of(version.value):
                for detail in _uncounted(after, price, unsupported):
                    problems.note(f"{version.pointer}{path}", detail)


def _no_more_countable(
    problems: Problems, document: Document, after: Catalog, unsupported: Unsupported
) -> None:
    """Note what a document says of meters and products that a price elsewhere cannot count."""
    pointers = {(held.kind, held.id): held.versions[-1].pointer for held in document.objects}
    if not {kind for kind, _ in pointers} & {Kind.METERS, Kind.PRODUCTS}:
        return
    for kind, name, price in _priced(after):
        if (kind, name) in pointers:
            continue
        named: list[tuple[Kind, str]] = [(Kind.PRODUCTS, price.product)]
        named += [(Kind.METERS, meter.id) for meter in counted_meters(after, price)]
        place = next((pointers[one] for one in named if one in pointers), None)
        if place is not None:
            for detail in _uncounted(after, price, unsupported):
                problems.note(place, f"{kind.value} '{name}': {detail}")


def _uncounted(catalog: Catalog, price: Price, unsupported: Unsupported) -> Iterator[str]:
    for meter in counted_meters(catalog, price):
        for detail in unsupported(Counted(price=price, meter=meter)):
            yield f"meter '{meter.id}': {detail}"


def _priced(catalog: Catalog) -> Iterator[tuple[Kind, str, Price]]:
    """Every price that is written anywhere, with where."""
    for kind in (Kind.PRICEBOOKS, Kind.CONTRACTS):
        for name, chain in chains_of(catalog, kind).items():
            for value in chain.values:
                for _, price in prices_of(value):
                    yield kind, name, price


def _rated(value: Value) -> Iterator[tuple[str, Price | Contract]]:
    """What the engines are asked about: each price, and a contract as a whole."""
    yield from prices_of(value)
    if isinstance(value, Contract):
        yield "", value


def _suspects(stated: Sequence[Layer], retired: Sequence[Layer]) -> set[tuple[Kind, str]] | None:
    """What may have become wrong; None: anything.

    Objects that name a customer or contract ask only that it is in force, so stating one without
    an end can make only itself wrong (or clash with another over a subject).
    """
    safe = {Kind.CUSTOMERS, Kind.CONTRACTS}
    ends = any(version.effective_until for layer in stated for version in layer.versions)
    if retired or ends or any(layer.kind not in safe for layer in stated):
        return None
    return {(layer.kind, layer.id) for layer in stated}


def _touched(after: Catalog, layers: Sequence[Layer]) -> set[CustomerId]:
    """Customers whose contracts, or their pricebooks, a document changes."""
    named = {(layer.kind, layer.id) for layer in layers}
    if not {kind for kind, _ in named} & {Kind.CONTRACTS, Kind.PRICEBOOKS}:
        return set()
    return {
        value.customer
        for chain in after.contracts.values()
        for value in chain.values
        if (Kind.CONTRACTS, value.id) in named
        or any((Kind.PRICEBOOKS, terms.pricebook) in named for terms in stages(value))
    }
