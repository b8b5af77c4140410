"""The grammar reads what it writes: over random documents of every family."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings

from catalog.changes import plan, render_chain
from catalog.grammar import parse_document, parse_value, render
from catalog.history import chains_of, versions_from_json, versions_to_json
from catalog.ids import Kind
from catalog.snapshot import Catalog
from tests.strategies import Tree, catalog_of, catalog_trees

FEW = settings(max_examples=40, deadline=None)


def as_yaml_text(tree: Any) -> Any:
    """``tree`` as a YAML reader that makes every scalar text would give it."""
    match tree:
        case dict():
            return {key: as_yaml_text(held) for key, held in tree.items()}
        case list():
            return [as_yaml_text(held) for held in tree]
        case bool():
            return str(tree).lower()
        case int():
            return str(tree)
        case _:
            return tree


@given(tree=catalog_trees())
@FEW
def test_what_is_rendered_reads_back_as_the_same_value(tree: Tree):
    """parse(render(x)) == x for every object, and rendering again changes nothing."""
    for held in parse_document(tree).objects:
        for version in held.versions:
            written = render(held.kind, version.value)
            again = parse_value(held.kind, held.id, json.loads(json.dumps(written)))
            assert again == version.value
            assert render(held.kind, again) == written


@given(tree=catalog_trees())
@FEW
def test_yaml_and_json_say_the_same(tree: Tree):
    """A tree whose scalars are all text is read like the one with JSON numbers and booleans."""
    assert parse_document(as_yaml_text(tree)) == parse_document(tree)


@given(tree=catalog_trees())
@FEW
def test_statements_survive_their_storage(tree: Tree):
    """Statements written as JSON text and read back are the same statements."""
    for new in plan(Catalog(), parse_document(tree)).statements:
        stored = json.dumps(versions_to_json(new.versions))
        assert versions_from_json(json.loads(stored)) == new.versions


@given(tree=catalog_trees())
@FEW
def test_a_whole_catalog_reads_back_as_itself(tree: Tree):
    """The documents GET shows, applied to an empty catalog, make the same chains."""
    catalog = catalog_of(tree)
    shown = {
        kind.value: {
            name: render_chain(kind, chain) for name, chain in chains_of(catalog, kind).items()
        }
        for kind in Kind
    }
    assert catalog_of(shown) == catalog
