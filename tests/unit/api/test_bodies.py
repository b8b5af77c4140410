"""JSON bodies are read without losing or inventing anything."""

from __future__ import annotations

import pytest

from api.routes.bodies import DEPTH_MAX, InvalidBody, parse_json


def test_values_keep_their_kind() -> None:
    """A number with a fraction arrives as float, for the field's reader to refuse."""
    assert parse_json(b'{"a": [1, "0.10", true, null, 123456789012345678901]}') == {
        "a": [1, "0.10", True, None, 123456789012345678901]
    }
    assert isinstance(parse_json(b"1.5"), float)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', "'b' is there twice"),
        (b'"\xff"', "not UTF-8"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b"[" * 100 + b"]" * 100, "nested deeper"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5_000, "not JSON"),
    ],
)
def test_what_two_readers_might_read_differently_is_refused(content: bytes, detail: str) -> None:
    """Each refusal says what is wrong, and none of them is a crash."""
    with pytest.raises(InvalidBody, match=detail):
        parse_json(content)


def test_the_deepest_body_is_accepted() -> None:
    """The bound itself is allowed."""
    assert parse_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
