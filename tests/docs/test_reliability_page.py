"""docs/reliability.md names tests that exist, and has a row for each fault."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE.read_text(), re.MULTILINE)


def defined_in(path: Path) -> set[str]:
    """The tests a file defines, those of classes too."""
    found = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_fault_has_a_row() -> None:
    """28 of them, in order."""
    assert [int(number) for number, _ in ROWS] == list(range(1, 29))


def test_every_row_names_tests_that_exist() -> None:
    """A fault without a test, or with one that is gone, is not shown."""
    for number, row in ROWS:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row)
        assert named, number
        for file, test in named:
            assert (TESTS / file).is_file(), f"{number}: {file}"
            assert test in defined_in(TESTS / file), f"{number}: {file}::{test}"
