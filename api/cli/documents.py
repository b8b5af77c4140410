"""Catalog files: YAML read as text, with the line of every field kept for error messages.

YAML's own idea of types is not used: ``1`` is the text "1", ``0.00003`` keeps its digits, ``no``
is a country. Only structure is taken from it (and ``null``-like emptiness: ``end:`` is None).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from catalog.errors import DomainError

NODES_MAX = 1_000_000
CORE_TAGS = "tag:yaml.org,2002:"
MERGE_KEY = "<<"

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A line of a file, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class UnreadableFile(DomainError):
    """A file cannot be read as a catalog document. ``place`` says where, if anywhere."""

    code = "unreadable_file"

    def __init__(self, detail: str, *, place: Place | str) -> None:
        super().__init__(f"{place}: {detail}")
        self.place = place


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """Several files as one tree of dict, list, str and None, and where each part of it stands."""

    tree: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def place(self, pointer: str) -> Place | None:
        """Where ``pointer`` stands, or the closest thing around it (a missing field's object)."""
        while pointer:
            if pointer in self.places:
                return self.places[pointer]
            pointer = pointer.rpartition("/")[0]
        return self.places.get("")


def load_documents(paths: Iterable[Path]) -> Documents:
    """Read and merge files; each object may be in one of them only.

    Raises:
        UnreadableFile: not readable, not YAML, a key twice in one mapping, or an object in two
            files.
    """
    merged = Documents()
    for path in paths:
        _merge(merged, load_text(_read(path), file=str(path)))
    return merged


def load_text(text: str, *, file: str, nodes_max: int = NODES_MAX) -> Documents:
    """One file's content as a document. An empty file is an empty document.

    ``nodes_max`` bounds the values it may have once its aliases are expanded.

    Raises:
        UnreadableFile: as for :func:`load_documents`.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place: Place | str = file if mark is None else Place(file=file, line=mark.line + 1)
        raise UnreadableFile(error.problem or str(error), place=place) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UnreadableFile(" ".join(str(error).split()), place=file) from error
    if root is None:
        return Documents()
    reader = _Reader(file, nodes_max)
    tree = reader.value(root, "")
    if not isinstance(tree, dict):
        raise UnreadableFile(
            "must be a mapping: meters, features, products, pricebooks, customers, contracts",
            place=Place(file=file, line=1),
        )
    return Documents(tree=tree, places=reader.places)


def step(pointer: str, key: str | int) -> str:
    """``pointer`` one level deeper (RFC 6901)."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


class _Reader:
    """Turns YAML nodes of one file into values and notes where they stand."""

    def __init__(self, file: str, nodes_max: int) -> None:
        self._file = file
        self._nodes_max = nodes_max
        self._open: list[yaml.Node] = []
        self._nodes = 0
        self.places: dict[str, Place] = {}

    def value(self, node: yaml.Node, pointer: str) -> Any:
        """``node`` as dict, list, text or None."""
        self._count(node)
        if node in self._open:
            raise self._refuse("an alias inside what it stands for", node)
        self.places.setdefault(pointer, self._place(node))
        if not node.tag.startswith(CORE_TAGS):
            raise self._refuse(f"the tag {node.tag} means nothing here", node)
        self._open.append(node)
        try:
            return self._content(node, pointer)
        finally:
            self._open.pop()

    def _content(self, node: yaml.Node, pointer: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {
                key: self.value(child, step(pointer, key))
                for key, child in self._members(node, pointer)
            }
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(child, step(pointer, index)) for index, child in enumerate(node.value)
            ]
        # Nothing written after the colon is no text; quotes around nothing are the empty text.
        return str(node.value) if node.value or _is_quoted(node) else None

    def _members(self, node: yaml.MappingNode, pointer: str) -> Iterator[tuple[str, yaml.Node]]:
        """The mapping's own members, then those of ``<<`` that it does not have itself."""
        self._count(node)
        own: dict[str, yaml.Node] = {}
        merges: list[yaml.MappingNode] = []
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._refuse("a key must be text", key_node)
            if key_node.value == MERGE_KEY and not _is_quoted(key_node):
                merges.extend(self._merged(child))
                continue
            if key_node.value in own:
                raise self._refuse(f"the key {key_node.value!r} is there twice", key_node)
            own[key_node.value] = child
            # The object's own key was seen first where it also stands in something merged.
            self.places.setdefault(step(pointer, key_node.value), self._place(key_node))
        yield from own.items()
        taken = set(own)
        for source in merges:
            for key, child in self._members(source, pointer):
                if key not in taken:
                    taken.add(key)
                    yield key, child

    def _merged(self, node: yaml.Node) -> list[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for each in nodes:
            if not isinstance(each, yaml.MappingNode) or each in self._open:
                raise self._refuse("<< takes a mapping or a list of them", node)
        return list(nodes)

    def _count(self, node: yaml.Node) -> None:
        self._nodes += 1
        if self._nodes > self._nodes_max:  # a few nested aliases can stand for billions of values
            raise self._refuse("expands to too many values", node)

    def _place(self, node: yaml.Node) -> Place:
        return Place(file=self._file, line=node.start_mark.line + 1)

    def _refuse(self, detail: str, node: yaml.Node) -> UnreadableFile:
        return UnreadableFile(detail, place=self._place(node))


def _is_quoted(node: yaml.Node) -> bool:
    """Whether a scalar was written with quotes or as a block, so that it can only be text."""
    return isinstance(node, yaml.ScalarNode) and bool(node.style)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableFile(error.strerror or str(error), place=str(path)) from error
    except UnicodeDecodeError as error:
        raise UnreadableFile("is not UTF-8", place=str(path)) from error


def _merge(into: Documents, other: Documents) -> None:
    """Add ``other``'s objects to ``into``, section by section."""
    for section, objects in other.tree.items():
        held = into.tree.get(section)
        if held is None:
            into.tree[section] = objects
        elif objects is not None:
            _merge_section(into, other, section)
    for pointer, place in other.places.items():
        into.places.setdefault(pointer, place)


def _merge_section(into: Documents, other: Documents, section: str) -> None:
    held, objects = into.tree[section], other.tree[section]
    pointer = step("", section)
    for tree, documents in ((held, into), (objects, other)):
        if not isinstance(tree, Mapping):
            place = documents.places[pointer]
            raise UnreadableFile(f"{section} must be a mapping of ids to objects", place=place)
    for name in objects:
        if name in held:
            here, there = other.places[step(pointer, name)], into.places[step(pointer, name)]
            raise UnreadableFile(f"{section} {name} is also in {there}", place=here)
    held.update(objects)
