"""Bodies of checks read by their text, beside the parser that reads them whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.hot.check_texts import CHECKS_MAX, KEPT_BYTES_MAX, KEPT_MAX, CheckTexts, checks_of
from catalog.errors import DomainError

NAMES = st.sampled_from(["acme", "bolt", "", 'a"b', "a\\", '},{"customer":"', "ü", "}]}", "\n"])
ITEM = st.fixed_dictionaries(
    {"feature": NAMES},
    optional={
        "amount": st.sampled_from(["1", "0.5", 7, "-1", "x", None, 10**20]),
        "dimensions": st.dictionaries(st.sampled_from(["customer", "model"]), NAMES, max_size=1),
    },
)
CHECK = st.fixed_dictionaries({"customer": NAMES, "items": st.lists(ITEM, max_size=2)})
PLAIN = st.fixed_dictionaries(
    {
        "customer": st.sampled_from(["acme", "bolt"]),
        "items": st.lists(
            st.fixed_dictionaries({"feature": st.just("tokens"), "amount": st.just("1")}),
            min_size=1,
            max_size=2,
        ),
    }
)
SPELLINGS = [
    {"separators": (",", ":")},
    {},
    {"indent": 1},
    {"separators": (",", ":"), "ensure_ascii": False},
]


def spelled(checks: list[Any], how: int) -> bytes:
    """A body as one client or another writes it."""
    return json.dumps({"checks": checks}, **SPELLINGS[how]).encode()  # type: ignore[arg-type]


def outcome(read: Any, body: bytes) -> Any:
    """What reading comes to: the checks, or the error."""
    try:
        found = [getattr(each, "check", each) for each in read(body)]
    except DomainError as error:
        return type(error), str(error)
    return [(each.customer, list(each.items)) for each in found]


BODIES = st.lists(
    st.tuples(st.lists(st.one_of(PLAIN, PLAIN, CHECK), max_size=4), st.integers(0, 3)), max_size=8
)


@given(bodies=BODIES)
def test_read_by_pieces_or_whole_it_is_the_same(bodies: list[tuple[list[Any], int]]) -> None:
    """Whatever was read before: the same checks, the same errors."""
    texts = CheckTexts()
    for checks, how in bodies:
        body = spelled(checks, how)
        assert outcome(texts.read, body) == outcome(checks_of, body)


@given(
    checks=st.lists(PLAIN, min_size=1, max_size=4),
    at=st.integers(0, 400),
    cut=st.integers(0, 30),
    put=st.sampled_from(
        [b"", b"}", b'"', b",", b'},{"customer":"', b'"customer":"x",', b"]}", b" "]
    ),
)
def test_a_body_that_was_tampered_with_is_read_as_it_is(
    checks: list[Any], at: int, cut: int, put: bytes
) -> None:
    """Cut out of and put into at any place, with the pieces of the whole one known."""
    texts, body = CheckTexts(), spelled(checks, 0)
    texts.read(body)
    other = body[:at] + put + body[at + cut :]
    assert outcome(texts.read, other) == outcome(checks_of, other)
    assert outcome(texts.read, other) == outcome(checks_of, other)


@pytest.mark.parametrize("how", [0, 1])
def test_what_was_asked_before_is_kept(how: int) -> None:
    """The same check is the same object, alone, among others, and twice in one body."""
    texts = CheckTexts()
    one = {"customer": "acme", "items": [{"feature": "tokens", "amount": "1"}]}
    other = {"customer": "bolt", "items": [{"feature": "tokens"}]}
    [first] = texts.read(spelled([one], how))
    again = texts.read(spelled([other, one, one], how))
    assert again[1] is again[2] is first


def test_how_much_is_kept_is_bounded() -> None:
    """Neither long texts nor more than so many checks."""
    texts = CheckTexts()
    long = [{"customer": "c" * KEPT_BYTES_MAX, "items": [{"feature": "tokens"}]}]
    assert texts.read(spelled(long, 0))[0] is not texts.read(spelled(long, 0))[0]
    for start in range(0, KEPT_MAX + CHECKS_MAX, CHECKS_MAX):
        some = [{"customer": f"c{n}", "items": [{"feature": "t"}]} for n in range(CHECKS_MAX)]
        for check in some:
            check["customer"] = f"{start}-{check['customer']}"
        texts.read(spelled(some, 0))
        assert len(texts._kept) <= KEPT_MAX
    many = [{"customer": "c", "items": [{"feature": "t"}]}] * (CHECKS_MAX + 1)
    with pytest.raises(DomainError, match="1 to 1000"):
        texts.read(spelled(many, 0))
