"""The families by kind: one object read from its tree, and written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from catalog.contracts import Contract, Customer
from catalog.grammar.contracts import CONTRACTS
from catalog.grammar.customers import CUSTOMERS
from catalog.grammar.meters import METERS
from catalog.grammar.nodes import Codec, Fields, Node, Problems, Record, Skip, listed, shape
from catalog.grammar.pricebooks import PRICEBOOKS
from catalog.grammar.prices import check_order
from catalog.grammar.products import FEATURES, PRODUCTS
from catalog.grammar.scalars import MOMENT
from catalog.grammar.taxes import TAXES
from catalog.ids import Kind, is_id
from catalog.meters import Meter
from catalog.moments import in_utc, moment_text
from catalog.pricebooks import Moment, Pricebook
from catalog.products import Feature, Product
from catalog.taxes import TaxTable

Value = Meter | Feature | Product | Pricebook | Customer | Contract | TaxTable

VERSIONS_MAX = 1_000
DOCUMENT_OBJECTS_MAX = 100_000

_RECORDS: dict[Kind, Record[Value]] = cast(
    "dict[Kind, Record[Value]]",
    {
        Kind.METERS: METERS,
        Kind.FEATURES: FEATURES,
        Kind.PRODUCTS: PRODUCTS,
        Kind.PRICEBOOKS: PRICEBOOKS,
        Kind.CUSTOMERS: CUSTOMERS,
        Kind.CONTRACTS: CONTRACTS,
        Kind.TAXES: TAXES,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """One version as stated: ``value`` holds in ``[effective_from, effective_until)``.

    ``pointer`` is where it stands in the document it was read from.
    """

    value: Value
    effective_from: Moment | None
    effective_until: Moment | None
    pointer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedObject:
    """What a document says about one object, in ascending order of ``effective_from``.

    ``whole_chain``: this replaces all that was ever stated; else it is laid over it.
    """

    kind: Kind
    id: str
    whole_chain: bool
    versions: tuple[Stated, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The objects of one catalog document, in the order of :class:`~catalog.ids.Kind`."""

    objects: tuple[StatedObject, ...] = ()


def parse_document(tree: object) -> Document:
    """Read ``{meters: {…}, products: {…}, …}``; an empty document is an empty mapping or null.

    Raises:
        InvalidDocument: naming every mistake (up to a limit) by its JSON pointer.
    """
    problems = Problems()
    objects: list[StatedObject] = []
    try:
        fields = Fields(Node({} if tree is None else tree, "", problems))
        for kind in Kind:
            fields.get(kind.value, _section(kind, objects))
        fields.settle()
    except Skip:
        pass
    problems.raise_if_any()
    return Document(objects=tuple(objects))


def _section(kind: Kind, found: list[StatedObject]) -> Codec[bool]:
    def read(node: Node) -> bool:
        if not isinstance(node.value, Mapping):
            raise node.refuse(f"must be a mapping of ids, not {shape(node.value)}")
        for key, tree in node.value.items():
            if len(found) >= DOCUMENT_OBJECTS_MAX:
                raise node.refuse(f"a document has at most {DOCUMENT_OBJECTS_MAX} objects")
            try:
                found.append(_object(kind, str(key), node.child(str(key), tree)))
            except Skip:
                continue
        return True

    return Codec(read, bool)


def parse_object(kind: Kind, id: str, tree: object) -> StatedObject:  # noqa: A002
    """Read one object, alone (the body of a PUT): pointers are relative to it.

    Raises:
        InvalidDocument: naming every mistake by its JSON pointer.
    """
    problems = Problems()
    try:
        return _object(kind, id, Node(tree, "", problems))
    except Skip:
        problems.raise_if_any()
        raise


def parse_value(kind: Kind, id: str, body: Mapping[str, object]) -> Value:  # noqa: A002
    """Read the body of one stored version (without effective times of its own).

    Raises:
        InvalidDocument: the body is not what this release understands.
    """
    problems = Problems()
    try:
        return _RECORDS[kind].build(Fields(Node(body, "", problems)), id=id)
    except Skip:
        problems.raise_if_any()
        raise


def render(kind: Kind, value: Value) -> dict[str, object]:
    """The canonical mapping of one value: decimals as text, defaults left out."""
    return _RECORDS[kind].write(value)


def render_version(
    kind: Kind, value: Value, *, since: Moment | None, until: Moment | None
) -> dict[str, object]:
    """:func:`render` with the effective times of the version it is."""
    written = render(kind, value)
    if since is not None:
        written["effective_from"] = moment_text(since)
    if until is not None:
        written["effective_until"] = moment_text(until)
    return written


def _object(kind: Kind, id: str, node: Node) -> StatedObject:  # noqa: A002
    if not is_id(id):
        raise node.refuse(f"{id[:40]!r} is not an id of letters, digits and . _ : -")
    if isinstance(node.value, Mapping) and "versions" in node.value:
        fields = Fields(node)
        versions = fields.need("versions", _versions(kind, id))
        fields.settle()
        return StatedObject(kind=kind, id=id, whole_chain=True, versions=versions)
    version = _version(kind, id, node)
    whole = version.effective_from is None
    return StatedObject(kind=kind, id=id, whole_chain=whole, versions=(version,))


def _versions(kind: Kind, id: str) -> Codec[tuple[Stated, ...]]:  # noqa: A002
    """A chain: ascending, each version ending where the next begins, or before."""
    chain = listed(Codec(lambda node: _version(kind, id, node), bool), least=1, most=VERSIONS_MAX)

    def read(node: Node) -> tuple[Stated, ...]:
        versions = chain.read(node)
        with node.settling():
            _check_chain(versions, node.problems)
        return versions

    return Codec(read, list)


def _check_chain(versions: Sequence[Stated], problems: Problems) -> None:
    for before, after in pairwise(versions):
        since = after.effective_from
        if since is None:
            problems.note(after.pointer, "'effective_from' is missing: only the first may omit it")
        elif before.effective_from and in_utc(since) <= in_utc(before.effective_from):
            place = f"{after.pointer}/effective_from"
            problems.note(place, "must be later than the version before")
        elif before.effective_until and in_utc(since) < in_utc(before.effective_until):
            place = f"{after.pointer}/effective_from"
            problems.note(place, "overlaps the version before")


def _version(kind: Kind, id: str, node: Node) -> Stated:  # noqa: A002
    fields = Fields(node)
    since = fields.get("effective_from", MOMENT)
    until = fields.get("effective_until", MOMENT)
    value = _RECORDS[kind].build(fields, id=id)
    check_order(since, until, fields=fields, key="effective_until")
    fields.settle()
    return Stated(value=value, effective_from=since, effective_until=until, pointer=node.pointer)
