"""Strategies for JSON as senders really spell it: spaces, escapes, exponents, endless digits."""

from __future__ import annotations

import json

from hypothesis import strategies as st

KEYS = ["a", "b", "c", "tokens", "model", "ключ", "a.b", "x y", "\t", '"', "é"]
HAND_PICKED_NUMBERS = [
    "0", "-0", "-0.0", "0e5", "1", "1.0", "1e0", "10e-1", "1E400", "-1e-400", "1e3", "1E+3", "0.1",
    "99999999999999999", "100000000000000000", "99999999999999999.999999999",
    "0.000000001", "0.0000000001", "1234567890.123456789", "123456789012345.6",
    "1" * 38, "9" * 400, "1." + "0" * 40, "1e" + "9" * 30, "1e-" + "9" * 30,
]  # fmt: skip

numbers = st.one_of(
    st.sampled_from(HAND_PICKED_NUMBERS),
    st.integers(-(10**20), 10**20).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
)


@st.composite
def strings(draw: st.DrawFn) -> str:
    """A JSON string, its characters raw or escaped in either way."""
    content = draw(st.one_of(numbers, st.text(max_size=8), st.sampled_from(["true", "null", ""])))
    spelled = [draw(st.sampled_from(_spellings(character))) for character in content]
    return '"' + "".join(spelled) + '"'


def _spellings(character: str) -> list[str]:
    units = character.encode("utf-16-be")
    pairs = [units[place : place + 2].hex() for place in range(0, len(units), 2)]
    escaped = "".join(rf"\u{pair}" for pair in pairs)
    return [json.dumps(character, ensure_ascii=False)[1:-1], escaped]


spaces = st.sampled_from(["", "", "", " ", "\n", "\t ", "\r\n"])


@st.composite
def objects(draw: st.DrawFn, *, depth: int = 2) -> str:
    """A JSON object without duplicate keys."""
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=5))
    pairs = []
    for key in keys:
        spelled = "".join(draw(st.sampled_from(_spellings(character))) for character in key)
        space, value = draw(spaces), draw(values(depth=depth - 1))
        pairs.append(f'{space}"{spelled}"{draw(spaces)}:{space}{value}')
    return "{" + ",".join(pairs) + draw(spaces) + "}"


def values(*, depth: int = 2) -> st.SearchStrategy[str]:
    """Any JSON value as text."""
    leaves = st.one_of(numbers, strings(), st.sampled_from(["true", "false", "null", "[]", "{}"]))
    if depth <= 0:
        return leaves
    arrays = st.lists(leaves, max_size=3).map(lambda items: "[" + " ,".join(items) + "]")
    return st.one_of(leaves, objects(depth=depth), arrays)
