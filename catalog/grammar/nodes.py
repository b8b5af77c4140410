"""Reading a tree of mappings, lists and scalars while noting every mistake, not only the first.

A *codec* reads one node into a value and writes the value back as its one canonical form. A
mistake is noted with its JSON pointer; what surrounds it is given up by :class:`Skip`, what
stands beside it is still read.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from catalog.errors import DomainError, FieldError

T = TypeVar("T")
K = TypeVar("K", bound=str)

ERRORS_MAX = 100


class InvalidDocument(DomainError):
    """A catalog document with mistakes; ``errors`` names each place. Nothing was kept."""

    code = "invalid_document"


class Skip(Exception):
    """This value cannot be built; why is already noted."""


class Problems:
    """The mistakes of one document, at most :data:`ERRORS_MAX` of them."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []
        self.count = 0

    def note(self, pointer: str, detail: str) -> None:
        """Remember one mistake."""
        self.count += 1
        if len(self.found) < ERRORS_MAX:
            self.found.append(FieldError(pointer=pointer, detail=detail))

    def raise_if_any(self) -> None:
        """Raise all of it as one :class:`InvalidDocument`."""
        if not self.count:
            return
        first = self.found[0]
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        where = first.pointer or "the document"
        raise InvalidDocument(f"{where}: {first.detail}{more}", errors=self.found)


def step(pointer: str, key: str | int) -> str:
    """``pointer`` one level deeper (RFC 6901)."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


@dataclass(frozen=True, slots=True)
class Node:
    """One place of the tree: what stands there, and where that is."""

    value: object
    pointer: str
    problems: Problems

    def refuse(self, detail: str) -> Skip:
        """Note a mistake here; raise what this returns."""
        self.problems.note(self.pointer, detail)
        return Skip()

    def child(self, key: str | int, value: object) -> Node:
        """The node one level deeper."""
        return Node(value, step(self.pointer, key), self.problems)

    @contextmanager
    def settling(self) -> Iterator[None]:
        """Read on after mistakes inside the block, then raise :class:`Skip` if there were any."""
        before = self.problems.count
        yield
        if self.problems.count > before:
            raise Skip


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How a value is read from a node, and written as its canonical form."""

    read: Callable[[Node], T]
    write: Callable[[T], object]


class Fields:
    """The fields of one mapping. Null is the same as absent.

    ``need`` and ``get`` note mistakes and go on; after :meth:`settle` all that was read is sound.
    """

    def __init__(self, node: Node) -> None:
        if not isinstance(node.value, Mapping):
            raise node.refuse(f"must be a mapping, not {shape(node.value)}")
        self.node = node
        self._tree = cast("Mapping[object, object]", node.value)
        self._asked: set[str] = set()
        self._before = node.problems.count

    def has(self, key: str) -> bool:
        """Whether ``key`` is there and not null."""
        self._asked.add(key)
        return self._tree.get(key) is not None

    def get(self, key: str, codec: Codec[T]) -> T | None:
        """The field's value, or None where it is absent (or wrong, which is noted)."""
        if not self.has(key):
            return None
        try:
            return codec.read(self.node.child(key, self._tree[key]))
        except Skip:
            return None

    def need(self, key: str, codec: Codec[T]) -> T:
        """The value of a required field. Not usable before :meth:`settle`."""
        if not self.has(key):
            self.missing(f"'{key}' is missing")
        return cast("T", self.get(key, codec))

    def one_of(self, *keys: str) -> str:
        """Which one of ``keys`` is there; exactly one must be. Skips at once otherwise."""
        given = [key for key in keys if self.has(key)]
        if len(given) != 1:
            listed = ", ".join(f"'{key}'" for key in keys)
            raise self.node.refuse(f"exactly one of {listed} must be given")
        return given[0]

    def refuse(self, key: str, detail: str) -> None:
        """Note that ``key`` is wrong."""
        self.node.problems.note(step(self.node.pointer, key), detail)

    def settle(self) -> None:
        """Refuse keys nobody asked for, then raise :class:`Skip` if anything was wrong."""
        for key in self._tree:
            if key not in self._asked:
                self._note_unknown(key)
        self._asked.update(str(key) for key in self._tree)
        if self.dirty:
            raise Skip

    @property
    def dirty(self) -> bool:
        """Whether anything in this mapping was wrong so far."""
        return self.node.problems.count > self._before

    def missing(self, detail: str) -> None:
        """Note a mistake of the mapping as a whole."""
        self.node.problems.note(self.node.pointer, detail)

    def _note_unknown(self, key: object) -> None:
        near = difflib.get_close_matches(str(key), sorted(self._asked), n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        self.node.problems.note(step(self.node.pointer, str(key)), f"unknown key '{key}'{hint}")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a :class:`Record`: its key, its attribute, whether it must be there."""

    key: str
    codec: Codec[object]
    attribute: str
    required: bool


def need(key: str, codec: Codec[T], attribute: str | None = None) -> Field:
    """A field that must be there."""
    return Field(key, cast("Codec[object]", codec), attribute or key, required=True)


def may(key: str, codec: Codec[T], attribute: str | None = None) -> Field:
    """A field that may be absent: the dataclass's default (or None) then holds, unwritten."""
    return Field(key, cast("Codec[object]", codec), attribute or key, required=False)


class Record(Generic[T]):
    """The codec of a dataclass whose attributes are its keys.

    ``check`` sees the value once every field is sound, and notes what is wrong between them.
    """

    def __init__(
        self,
        cls: type[T],
        *fields: Field,
        check: Callable[[T, Fields], None] | None = None,
    ) -> None:
        self._cls = cls
        self._fields = fields
        self._check = check
        self._defaults = {f.name: _default_of(f) for f in dataclasses.fields(cls)}  # type: ignore[arg-type]

    @property
    def codec(self) -> Codec[T]:
        """As a codec among others."""
        return Codec(self.read, self.write)

    def read(self, node: Node) -> T:
        """Read the mapping at ``node``."""
        return self.build(Fields(node))

    def build(self, fields: Fields, **given: object) -> T:
        """Read a mapping whose other attributes are ``given`` (an id that is the key above)."""
        for field in self._fields:
            read = fields.need if field.required else fields.get
            value = read(field.key, field.codec)
            given[field.attribute] = self._defaults[field.attribute] if value is None else value
        fields.settle()
        value = self._cls(**given)
        if self._check is not None:
            self._check(value, fields)
            fields.settle()
        return value

    def write(self, value: T) -> dict[str, object]:
        """The canonical mapping: fields in the grammar's order, defaults left out."""
        written: dict[str, object] = {}
        for field in self._fields:
            held = getattr(value, field.attribute)
            if field.required or held != self._defaults[field.attribute]:
                written[field.key] = field.codec.write(held)
        return written


def _default_of(field: dataclasses.Field[object]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def listed(codec: Codec[T], *, least: int = 0, most: int = 1_000) -> Codec[tuple[T, ...]]:
    """A list in the order written."""

    def read(node: Node) -> tuple[T, ...]:
        if not isinstance(node.value, list | tuple):
            raise node.refuse(f"must be a list, not {shape(node.value)}")
        if not least <= len(node.value) <= most:
            raise node.refuse(f"must have {least} to {most} items, not {len(node.value)}")
        found: list[T] = []
        with node.settling():
            for index, item in enumerate(node.value):
                try:
                    found.append(codec.read(node.child(index, item)))
                except Skip:
                    continue
        return tuple(found)

    return Codec(read, lambda values: [codec.write(value) for value in values])


def distinct(codec: Codec[tuple[K, ...]]) -> Codec[tuple[K, ...]]:
    """A list whose order means nothing: sorted, and refused if an item stands twice."""

    def read(node: Node) -> tuple[K, ...]:
        values = codec.read(node)
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise node.refuse(f"{twice!r} is listed twice")
        return tuple(sorted(values))

    return Codec(read, codec.write)


def mapped(
    key: Codec[K], value: Codec[T], *, least: int = 0, most: int = 1_000
) -> Codec[tuple[tuple[K, T], ...]]:
    """A mapping with free keys, as pairs sorted by key."""

    def read(node: Node) -> tuple[tuple[K, T], ...]:
        if not isinstance(node.value, Mapping):
            raise node.refuse(f"must be a mapping, not {shape(node.value)}")
        if not least <= len(node.value) <= most:
            raise node.refuse(f"must have {least} to {most} entries, not {len(node.value)}")
        found: list[tuple[K, T]] = []
        with node.settling():
            for name, held in node.value.items():
                place = node.child(str(name), held)
                try:
                    named = key.read(Node(name, place.pointer, node.problems))
                    found.append((named, value.read(place)))
                except Skip:
                    continue
        return tuple(sorted(found, key=lambda pair: pair[0]))

    return Codec(read, lambda pairs: {str(key.write(k)): value.write(v) for k, v in pairs})


def shape(value: object) -> str:
    """What a value is, in words for people."""
    match value:
        case None:
            return "nothing"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            return f"the text {value[:40]!r}"
        case bool():
            return "true" if value else "false"
        case _:
            return f"the number {str(value)[:40]}"
