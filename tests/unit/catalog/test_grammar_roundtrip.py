"""The grammar reads what it writes: over random documents of every family."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings

from catalog.grammar import parse_document, parse_object, parse_value, render
from catalog.history import versions_from_json, versions_to_json
from catalog.changes import plan, render_chain
from catalog.snapshot import Catalog
from catalog.history import chains_of
from tests.strategies import Tree, catalog_trees, catalog_of


@given(tree=catalog_trees())
@settings(max_examples=60, deadline=None)
def test_what_is_rendered_reads_back_as_the_same_value(tree: Tree):
    """parse(render(x)) == x for every object, and rendering again changes nothing."""
    for held in parse_document(tree).objects:
        for version in held.versions:
            written = render(held.kind, version.value)
            again = parse_value(held.kind, held.id, json.loads(json.dumps(written)))
            assert again == version.value
            assert render(held.kind, again) == written
