"""Tokens found by the kernels are those that a patient parser finds, row by row."""

from __future__ import annotations

import ctypes
import json
import mmap
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.events import QUANTITY
from ingest import tokens
from ingest.fields import fields_of, token_at
from ingest.jsontext import canonical_json, dump, text_of
from ingest.kernels import json_paths, token_columns
from ingest.numbers import read_quantity
from tests.unit.ingest.json_texts import KEYS, objects, spaces, values

PATHS = ["data.a", "data.b", "data.tokens", "data.ключ", "data.é", "data.x y", 'data."', "data.\t"]
INNER = ["data.a.b", "data.a.c", "data.a.a.b", "data.tokens.a"]
NO_ACCESS = 0  # PROT_NONE

HOSTILE = [
    None, "", " ", "{}", " {\t}\r\n", "[]", "{},{}", "{", "}", "null", '"a"', "1", "[{}]", "nul",
    '{"a":1,"a":2}', '{"a":1,"a":null}', '{"a":null,"a":"x"}', '{"a":1,"\\u0061":2}',
    '{"\\u0061":"q"}', '{"a":"\\ud83d\\ude00"}', '{"a":"\\ud800"}', '{"a":"\\q"}',
    '{"a":"\\u00g0"}',
    '{"a":"\\udc00\\ud83d"}', '{"a":"\\ud83d\\u0041"}', '{"a":"\\ud83dx"}',
    '{"a":"\\uDBFF\\uDFFF"}',
    '{"a":"\\ud83d\\ud83d"}', '{"a":"\\ud83d\\', '{"a":"\\ud83d\\udc0', '{"b":"\\ud7ff\\ue000"}',
    '{"a":"\\', '{"a":"\\u', '{"a":"\\u12', '{"a":"x', '{"a":t', '{"a":tru', '{"a":nul', '{"a":-',
    '{"a":1.', '{"a":1e', '{"a":1e+', '{"a":01}', '{"a":-01}', '{"a":+1}', '{"a":.5}', '{"a":1.}',
    '{"a":1e}', '{"a":-}', '{"a":NaN}', '{"a":Infinity}', '{"a":true}', '{"a":truex}', '{"a":1 2}',
    '{"a":1,}', '{"a":1}}', '{"a":1} x', '{"a":1}\x00', '{"a" 1}', "{'a':1}", "{a:1}", '{"a":}',
    '{,"a":1}', '{"a":[1,]}', '{"a":[,1]}', '{"a":[1 2]}', '{"a":{"b":1,}}', '{"a":{"b"}}',
    '{"a":[}]}', '{"a":{]}}', '{"a":[{"b":[]}]}', '{"a":{"b":1},"a":{"c":2}}', '{"a":"\x01"}',
    '{"a":"\x7f"}', '{"\x01":1}', '{"":1}', '{"a":""}', '{"a":" "}', '{"a":"\ufeff"}', "\ufeff{}",
    '{"a":{"b":{"c":1}}}', '{"a":"{\\"b\\":1}"}', '{"a":"{"}', '{"a":[{"b":1}]}', '{"a":"null"}',
    '{"a":' + "[" * 59 + "]" * 59 + "}", '{"a":' + "[" * 61 + "]" * 61 + "}",
    '{"a":' + '{"b":' * 61 + "1" + "}" * 62, '{"a":' + "[" * 5000 + "]" * 5000 + "}",
    '{"z":"' + "x" * 70_000 + '","a":"' + "é" * 70_000 + '"}', '{"a":"12345678"}',
    '{"a":"1234567"}',
    *(f'{{"a":{number}}}' for number in (
        "-0", "-0.0", "0.0", "1.0", "0", "1e3", "-1E-3", "9" * 17, "-" + "9" * 17, "9" * 18,
        "9" * 17 + "." + "9" * 9, "0." + "1" * 9, "0." + "1" * 10, "1.5" + "0" * 20, "1e400",
    )),
    *(f'{{"a":"{number}"}}' for number in (
        "-0", "1.0", "1e3", "9" * 17, "-" + "9" * 17 + "." + "9" * 9, "9" * 18, "0." + "1" * 10,
        "00", "-", "1.", ".1", "+1", " 1", "1 ", "٣", "-.5", "--1", "1.2.3", "\\u0031",
    )),
]  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> str | None:
    """One row: what a sender sends, a list of surprises, or either of them damaged."""
    text = draw(st.one_of(objects(), doubled(), st.sampled_from(HOSTILE)))
    if text is None:
        return None
    text = draw(spaces) + text + draw(spaces)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(text)))
        new = draw(st.sampled_from([*'{}[],:"\\ \t0159-+.eEtfn\x1f\x00é', ""]))
        text = text[:place] + new + text[place + draw(st.integers(0, 1)) :]
    return text


@st.composite
def doubled(draw: st.DrawFn) -> str:
    """An object in which keys may stand twice."""
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=5))
    pairs = [f"{json.dumps(key)}:{draw(values(depth=1))}" for key in keys]
    return "{" + ",".join(pairs) + "}"


def one_by_one(data: pl.Series, path: str) -> list[str | None]:
    """The tokens at a path, each row parsed for itself."""
    return [token_at(fields_of(text or "{}"), path) for text in data]


FORMS = [
    (tokens.as_sent, lambda token: token),
    (tokens.text, text_of),
    (tokens.canonical, canonical_json),
    (tokens.number, lambda token: read_quantity(text_of(token))),
]


def check(data: pl.Series) -> None:
    """Every form of every path is what the patient functions say."""
    paths = [*PATHS, *INNER]
    found = tokens.find_tokens(data, paths)
    assert list(found) == paths
    for path in paths:
        expected = one_by_one(data, path)
        for form, spell in FORMS:
            column = form(found[path])
            assert column.dtype == (QUANTITY if form is tokens.number else pl.String)
            assert column.to_list() == [None if each is None else spell(each) for each in expected]
    names = {json.dumps(path, ensure_ascii=False): path for path in paths}
    assert tokens.objects({name: found[path] for name, path in names.items()}).to_list() == [
        dump({name: text_of(token) for name, token in zip(names, row, strict=True) if token})
        for row in zip(*(one_by_one(data, path) for path in paths), strict=True)
    ]
    assert tokens.tokens_at(data, paths).to_dict(as_series=False) == {
        path: one_by_one(data, path) for path in paths
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(rows(), max_size=8), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_columns_are_what_each_row_says_for_itself(texts, skipped, left, chunked):
    """Whatever stands beside a row, before a slice or in another chunk, it reads the same."""
    data = pl.Series(texts, dtype=pl.String)
    if chunked:
        broken = pl.Series(['{"a":1'], dtype=pl.String)
        data = pl.concat([broken, data, broken], rechunk=False)
        assert data.n_chunks() > 1
    check(data.slice(skipped, max(len(data) - skipped - left, 0)))


def test_every_surprise():
    """All of them in one column, and each alone."""
    check(pl.Series(HOSTILE, dtype=pl.String))
    for text in HOSTILE:
        check(pl.Series([text], dtype=pl.String))


@settings(max_examples=100, deadline=None)
@given(st.one_of(objects(), doubled()))
def test_a_token_is_the_value_that_python_reads(text):
    """Independent of all our own parsers: the token at a key parses to the value at that key."""
    exact = {"parse_int": str, "parse_float": str}
    expected = json.loads(text, **exact)
    for key in KEYS:
        way = tokens.find_tokens(pl.Series([text]), [key])
        if "." not in key:
            token = tokens.as_sent(way[key]).item()
            assert (None if token is None else json.loads(token, **exact)) == expected.get(key)


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,10})?", fullmatch=True), st.booleans())
def test_numbers_keep_every_digit(number, as_string):
    """Sent as a number or a string, a quantity is its exact value, or none if it holds none."""
    token = f'"{number}"' if as_string else number
    (found,) = tokens.find_tokens(pl.Series([f'{{"n":{token}}}']), ["data.n"]).values()
    value = Decimal(number)
    fits = abs(value) < 10**17 and not value % Decimal("1e-9")
    assert tokens.number(found).to_list() == [value if fits else None]


def test_no_rows_have_no_tokens():
    """An empty column, of whatever type, has columns of no rows; no paths have no columns."""
    check(pl.Series([], dtype=pl.String))
    check(pl.Series([None, None]))
    assert tokens.tokens_at(pl.Series(["{}"]), []).is_empty()


@pytest.fixture
def edge():
    """The address of the end of readable memory: a byte further is a fault."""
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    assert protect(start + mmap.PAGESIZE, mmap.PAGESIZE, NO_ACCESS) == 0
    yield start + mmap.PAGESIZE
    protect(start + mmap.PAGESIZE, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)


def test_nothing_behind_a_text_is_read(edge):
    """Texts have no padding: cut anywhere, they may end where memory ends."""
    whole = '{"a":"\\u0061b\\n", "b" :-12.5e+3,"c":[{"d":true},false,null],"e":"12345678901"} '
    samples = [whole, *(text for text in HOSTILE if text and len(text) < 500)]
    for sample in samples:
        content = sample.encode()
        for size in range(1, len(content) + 1):
            ctypes.memmove(edge - size, content[:size], size)
            _read_at(edge - size, edge)


def _read_at(start: int, end: int) -> None:
    starts, ends = np.array([start]), np.array([end])
    kinds, odd = np.array([json_paths.OBJECT], np.uint8), np.empty(1, np.uint8)
    word = np.frombuffer(b"a", np.uint8)
    keys = np.array([word.ctypes.data, 1])
    values_at = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.uint8)
    found = np.array([each.ctypes.data for each in values_at])
    json_paths.find(starts, ends, kinds, keys, found, odd)
    json_paths.classify(starts, ends, kinds)
    into, offsets = np.empty(end - start, np.uint8), np.empty(2, np.int64)
    for kind in range(1, 8):
        kinds[0] = kind
        token_columns.join(starts, ends, kinds, False, offsets, into)
        assert into[: offsets[1]].tobytes() == ctypes.string_at(start, end - start)
        token_columns.quantities(starts, ends, kinds, np.empty(2, np.uint64), odd)
