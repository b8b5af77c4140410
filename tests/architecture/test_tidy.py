"""Style as a test: sizes, banned names, files that nothing needs (STYLE: «rules not executed»)."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "api",
    "storage",
    "outbound",
    "invoicing",
    "ingest",
    "rating",
    "entitlements",
    "catalog",
    "clients/python/tallyman_client",
)
FUNCTION_LINES_MAX = 40
FILE_LINES_MAX = 500
CONFTEST_LINES_MAX = 150
MOCKS_PER_100_TESTS_MAX = 2
BANNED_MODULES = ("utils", "helpers", "manager", "common", "misc")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Every Python file of the service, migrations left out."""
    found = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    return [path for path in found if "migrations/versions" not in path.as_posix()]


def functions(path: Path) -> Iterator[Function]:
    """The functions of one file, nested ones too."""
    tree = ast.parse(path.read_text())
    yield from (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def body_lines(function: Function) -> int:
    """How long a function is, its docstring aside."""
    body = function.body
    if ast.get_docstring(function) is not None and len(body) > 1:
        body = body[1:]
    return (function.end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    """Files have at most 500 lines, functions at most 40."""
    lines = path.read_text().count("\n")
    assert lines <= FILE_LINES_MAX, f"{path.name} has {lines} lines"
    long = [(f.name, body_lines(f)) for f in functions(path) if body_lines(f) > FUNCTION_LINES_MAX]
    assert long == []


def test_no_module_is_named_after_nothing() -> None:
    """A module is named by what it is for."""
    assert [path for path in sources() if path.stem in BANNED_MODULES] == []


def test_fakes_not_patches() -> None:
    """At most two mocks or patches per hundred tests."""
    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    tests = sum(len(re.findall(r"^\s*(?:async )?def test_", text, re.MULTILINE)) for text in texts)
    patches = sum(
        len(re.findall(r"monkeypatch\.setattr|mock\.patch|MagicMock\(", text)) for text in texts
    )
    assert patches <= max(1, tests * MOCKS_PER_100_TESTS_MAX // 100)


def test_conftests_stay_small() -> None:
    """Fixtures are modules of their own; conftest.py only gathers them."""
    for path in (ROOT / "tests").rglob("conftest.py"):
        assert path.read_text().count("\n") <= CONFTEST_LINES_MAX


def test_no_binary_float_holds_money_or_units() -> None:
    """The engines name no Float column type and call no float(); decoders meet what is sent."""
    engines = ("catalog", "ingest", "rating", "entitlements", "invoicing")
    for path in (p for name in engines for p in (ROOT / name).rglob("*.py")):
        if path.is_relative_to(ROOT / "ingest" / "decode"):
            continue
        tree = ast.parse(path.read_text())
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        calls = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not names & {"Float64", "Float32"}, path
        assert "float" not in calls, path


def test_no_address_of_a_package_index_is_committed() -> None:
    """A clone installs from wherever its own machine installs from."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    pattern = re.compile("|".join(("index" + "-url", "find" + "-links", "pypi" + r"\.org/simple")))
    for name in listed:
        path = ROOT / name
        if path.suffix in {".py", ".toml", ".txt", ".md", ".yml", ""} and path.is_file():
            assert not pattern.search(path.read_text(errors="ignore")), name
