"""How a destination is declared: a JSON (or YAML) tree read strictly, every mistake named."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from catalog.errors import DomainError
from catalog.grammar.nodes import (
    Codec,
    Fields,
    Node,
    Problems,
    Record,
    Skip,
    listed,
    may,
    need,
    shape,
)
from catalog.grammar.scalars import CURRENCY, TEXT, choice, integer, text
from catalog.ids import is_id
from outbound.adapters import DOCUMENTS, FORMATS
from outbound.addresses import Network, read_url
from outbound.destinations import (
    Choice,
    Column,
    Destination,
    Every,
    ExportId,
    Filter,
    Schedule,
    Start,
    Transport,
)
from outbound.documents.base import Document
from outbound.webhooks import SECRETS_MAX, is_secret
from rating.frames import LineKind

BATCH_MAX = 100_000
MINUTES_MAX = 7 * 24 * 60
COLUMNS_MAX = 200
WEBHOOK_FORMAT = "json"
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,63}){0,7}")


def read_destination(
    id: str,  # noqa: A002
    tree: object,
    *,
    allowed: tuple[Network, ...] = (),
    secrets: tuple[str, ...] = (),
) -> Destination:
    """Read a declaration.

    Args:
        id: the destination's.
        tree: JSON values.
        allowed: networks inside that URLs may lead to.
        secrets: those of the declaration before, kept where this one names none.

    Raises:
        InvalidDocument: naming every mistake by its JSON pointer.
    """
    problems = Problems()
    try:
        node = Node(tree, "", problems)
        if not is_id(id):
            raise node.refuse(f"{id[:40]!r} is not an id of letters, digits and . _ : -")
        kept = dict(tree) if isinstance(tree, Mapping) else tree
        if isinstance(kept, dict) and secrets and kept.get("secrets") is None:
            kept["secrets"] = list(secrets)
        fields = Fields(Node(kept, "", problems))
        found = _DESTINATION.build(fields, id=ExportId(id))
        _check(found, fields, allowed)
        fields.settle()
    except Skip:
        problems.raise_if_any()
        raise
    return found


def write_destination(destination: Destination) -> dict[str, object]:
    """The canonical declaration, secrets and all: what is stored, and read back the same."""
    return _DESTINATION.write(destination)


def document_of(destination: Destination) -> tuple[Document, Any]:
    """A destination's document adapter, and its options as the adapter reads them.

    Raises:
        InvalidDocument: the options are not what this release understands.
    """
    document = DOCUMENTS[destination.document]
    problems = Problems()
    try:
        node = Node(dict(destination.options), "/options", problems)
        return document, document.options.read(node)
    except Skip:
        problems.raise_if_any()
        raise


def _check(found: Destination, fields: Fields, allowed: tuple[Network, ...]) -> None:
    """What the fields must be together."""
    webhook = found.kind is Transport.WEBHOOK
    for key, needed in (("folder", not webhook), ("url", webhook), ("secrets", webhook)):
        if needed and not fields.has(key):
            fields.missing(f"'{key}' is missing: the kind is {found.kind}")
        if not needed and fields.has(key):
            fields.refuse(key, f"a destination of kind {found.kind} has none")
    if found.url is not None:
        try:
            read_url(found.url, allowed=allowed)
        except DomainError as error:
            fields.refuse("url", error.detail)
    _check_adapters(found, fields)


def _check_adapters(found: Destination, fields: Fields) -> None:
    if (found.format == WEBHOOK_FORMAT) != (found.kind is Transport.WEBHOOK):
        fields.refuse("format", f"{found.format} does not go with the kind {found.kind}")
    document = DOCUMENTS[found.document]
    try:
        place = fields.node.child("options", dict(found.options))
        document.options.read(place)
    except Skip:
        return
    if found.batch is not None and found.batch > document.batch_max:
        fields.refuse("batch", f"{document.name} takes at most {document.batch_max}")
    names = [column.name for column in found.columns or ()]
    for index, column in enumerate(found.columns or ()):
        if column.source is not None and column.source not in document.columns:
            known = ", ".join(document.columns.names())
            fields.refuse("columns", f"{column.source!r} is not one of {known}")
        if column.name in names[:index]:
            fields.refuse("columns", f"{column.name!r} is there twice")


def _one_of(known: Collection[str]) -> Codec[str]:
    def read(node: Node) -> str:
        if not isinstance(node.value, str) or node.value not in known:
            raise node.refuse(f"must be one of {', '.join(known)}, not {shape(node.value)}")
        return node.value

    return Codec(read, str)


def _chosen(item: Codec[str]) -> Codec[Choice]:
    """A choice among values of a kind: one that no line can have is a mistake, not a filter."""

    def read(node: Node) -> Choice:
        fields = Fields(node)
        key = fields.one_of("in", "not_in")
        values = fields.need(key, listed(item, least=1))
        fields.settle()
        return Choice(values=values, excluded=key == "not_in")

    return Codec(
        read, lambda held: {"not_in" if held.excluded else "in": [str(v) for v in held.values]}
    )


_FILTER = Record(
    Filter,
    may("products", _chosen(TEXT)),
    may("entities", _chosen(TEXT)),
    may("currencies", _chosen(CURRENCY)),
    may("kinds", _chosen(_one_of([kind.value for kind in LineKind]))),
    may("customers", _chosen(TEXT)),
)
_COLUMN_NAME = text(bytes_max=128)


def _read_column(node: Node) -> Column:
    if isinstance(node.value, str):
        return Column(name=node.value, source=node.value)
    fields = Fields(node)
    name = fields.need("name", _COLUMN_NAME)
    if fields.one_of("from", "value") == "from":
        column = Column(name=name, source=fields.need("from", TEXT))
    else:
        column = Column(name=name, value=fields.need("value", TEXT))
    fields.settle()
    return column


def _write_column(column: Column) -> object:
    if column.source is None:
        return {"name": column.name, "value": column.value}
    return column.name if column.name == column.source else {"name": column.name,
                                                              "from": column.source}  # fmt: skip


def _check_schedule(schedule: Schedule, fields: Fields) -> None:
    if (schedule.every is None) == (schedule.every_minutes is None):
        fields.missing("exactly one of 'every', 'every_minutes' must be given")


def _read_folder(node: Node) -> str:
    if not isinstance(node.value, str) or not _FOLDER.fullmatch(node.value):
        raise node.refuse(
            "must be a relative folder: names of letters, digits and . _ - between slashes"
        )
    return node.value


def _read_secret(node: Node) -> str:
    if not isinstance(node.value, str) or not is_secret(node.value):
        raise node.refuse("must be whsec_ and the base64 of 24 to 64 random bytes")
    return node.value


def _read_options(node: Node) -> tuple[tuple[str, object], ...]:
    if not isinstance(node.value, Mapping):
        raise node.refuse(f"must be a mapping, not {shape(node.value)}")
    return tuple((str(key), value) for key, value in node.value.items())


_DESTINATION = Record(
    Destination,
    need("kind", choice(Transport)),
    may("document", _one_of(DOCUMENTS)),
    need("format", _one_of(FORMATS)),
    may("filter", _FILTER.codec),
    may("columns", listed(Codec(_read_column, _write_column), least=1, most=COLUMNS_MAX)),
    may("options", Codec(_read_options, dict)),
    may(
        "schedule",
        Record(
            Schedule,
            may("every", choice(Every)),
            may("every_minutes", integer(least=1, most=MINUTES_MAX)),
            check=_check_schedule,
        ).codec,
    ),
    may("batch", integer(least=1, most=BATCH_MAX)),
    may("start", choice(Start)),
    may("folder", Codec(_read_folder, str)),
    may("url", text(bytes_max=2_048)),
    may("secrets", listed(Codec(_read_secret, str), least=1, most=SECRETS_MAX)),
)
