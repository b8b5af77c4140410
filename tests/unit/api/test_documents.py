"""Catalog files are read as text, with the place of everything in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.cli.documents import Documents, UnreadableFile, load_documents, load_text

EXAMPLE = """\
meters:
  1: &base {event_type: llm.completion, aggregation: sum, percentile: 0.10}
  copy:
    <<: *base
    aggregation: no
    window:
    tags: [0x10, "",
      {2026-01-01: ~}]
"""


def refusal(text: str) -> str:
    """How a text is refused."""
    with pytest.raises(UnreadableFile) as raised:
        load_text(text, file="a.yaml")
    return raised.value.detail


def test_every_scalar_and_key_is_text() -> None:
    """No number, boolean, date or null is made of what was written; emptiness is None."""
    assert load_text(EXAMPLE, file="a.yaml").tree == {
        "meters": {
            "1": {"event_type": "llm.completion", "aggregation": "sum", "percentile": "0.10"},
            "copy": {
                "aggregation": "no",
                "window": None,
                "tags": ["0x10", "", {"2026-01-01": "~"}],
                "event_type": "llm.completion",
                "percentile": "0.10",
            },
        }
    }


@pytest.mark.parametrize(
    ("pointer", "line"),
    [
        ("", 1),
        ("/meters/1", 2),
        ("/meters/1/percentile", 2),
        ("/meters/copy", 3),
        ("/meters/copy/aggregation", 5),
        ("/meters/copy/percentile", 2),
        ("/meters/copy/tags/2/2026-01-01", 8),
        ("/meters/copy/value", 3),
        ("/elsewhere/x", 1),
    ],
)
def test_a_pointer_leads_to_a_line(pointer: str, line: int) -> None:
    """A missing field is its object's line; what an alias brought in, the anchor's."""
    assert str(load_text(EXAMPLE, file="a.yaml").place(pointer)) == f"a.yaml:{line}"


def test_pointers_are_escaped() -> None:
    """Keys may hold the characters pointers are made of."""
    documents = load_text("a:\n  b/c~d: 1\n", file="a.yaml")
    assert documents.places["/a/b~1c~0d"].line == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: the key 'a' is there twice"),
        ("a:\n  x: {k: 1, k: 1}\n", "a.yaml:2: the key 'k' is there twice"),
        ("[1]", "a.yaml:1: must be a mapping"),
        ("a: !secret x\n", "a.yaml:1: the tag !secret means nothing here"),
        ("\n? [1]\n: 2\n", "a.yaml:2: a key must be text"),
        ("a: 1\nb: &x [*x]\n", "a.yaml:2: an alias inside what it stands for"),
        ("a: &x {<<: *x}\n", "a.yaml:1: << takes a mapping"),
        ("a: {<<: 1}\n", "a.yaml:1: << takes a mapping"),
        ("a: *nope\n", "a.yaml:1: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2: but found another document"),
        ("a: [\n", "a.yaml:2: "),
        ("a: \x00", "a.yaml: "),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, expected: str) -> None:
    """Ambiguous or broken YAML is refused, never guessed at."""
    assert refusal(text).startswith(expected)


def test_nested_aliases_do_not_eat_the_memory() -> None:
    """A few lines that stand for a hundred million values are refused."""
    tens = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    bomb = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *tens])
    with pytest.raises(UnreadableFile, match="expands to too many values"):
        load_text(bomb, file="a.yaml", nodes_max=10_000)
    merges = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 9)]
    with pytest.raises(UnreadableFile, match="expands to too many values"):
        load_text("\n".join(["a0: &a0 {x: 1}", *merges]), file="a.yaml", nodes_max=10_000)


def test_an_empty_file_is_an_empty_document() -> None:
    """Only comments is fine too."""
    assert load_text("# nothing yet\n", file="a.yaml") == Documents()


def test_files_are_merged_object_by_object(tmp_path: Path) -> None:
    """A section may be spread over files; every place names its own file."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("meters:\n  a: {x: 1}\nproducts:\n")
    two.write_text("products:\n  p: {name: P}\nmeters:\n  b: {x: 2}\n")
    documents = load_documents([one, two])
    assert documents.tree == {
        "meters": {"a": {"x": "1"}, "b": {"x": "2"}},
        "products": {"p": {"name": "P"}},
    }
    assert str(documents.place("/meters/a/x")) == f"{one}:2"
    assert str(documents.place("/meters/b/x")) == f"{two}:4"


def test_an_object_in_two_files_names_both(tmp_path: Path) -> None:
    """Neither file silently wins."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("meters:\n  a: {x: 1}\n")
    two.write_text("\nmeters:\n  a: {x: 1}\n")
    with pytest.raises(UnreadableFile) as raised:
        load_documents([one, two])
    assert raised.value.detail == f"{two}:3: meters a is also in {one}:2"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """Missing, or not text at all."""
    with pytest.raises(UnreadableFile, match=r"missing\.yaml"):
        load_documents([tmp_path / "missing.yaml"])
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableFile, match="not UTF-8"):
        load_documents([binary])
