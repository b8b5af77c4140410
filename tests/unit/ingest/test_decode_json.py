"""JSON bodies: every event as it was sent, or rejected by its index with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import (
    Body,
    Decoded,
    EmptyBody,
    IngestLimits,
    TooManyEvents,
    UnreadableBody,
    UnsupportedMediaType,
)
from ingest.decode import decode
from tests.unit.ingest.fakes import event
from tests.unit.ingest.json_texts import KEYS, objects, spaces, strings, values

ARRAY, NDJSON = "application/json", "application/x-ndjson"
ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
REQUIRED = ("id", "source", "type", "subject")


def read(content: bytes | str, media: str = ARRAY, **limits: int) -> Decoded:
    """Decode a body of the given type."""
    content = content.encode() if isinstance(content, str) else content
    return decode(Body(content=content, content_type=media), IngestLimits(**limits))


def codes(decoded: Decoded) -> list[tuple[int, str]]:
    """(index, code) of every rejection."""
    return [(rejection.index, rejection.code.value) for rejection in decoded.rejected]


@st.composite
def events(draw: st.DrawFn) -> str:
    """Something like an event: mostly valid, spelled in any way, at times with a flaw."""
    pairs = [(name, draw(st.one_of(st.just('"x"'), strings()))) for name in REQUIRED]
    pairs.append(("data", draw(st.one_of(objects(), st.just("null"), st.just('{"a":1}')))))
    flaw = draw(st.sampled_from(["", "", "", "drop", "twice", "type", "extension", "deep", "raw"]))
    if flaw == "drop":
        pairs.pop(draw(st.integers(0, len(pairs) - 1)))
    elif flaw == "twice":
        pairs.append(draw(st.sampled_from(pairs)))
    elif flaw == "type":
        pairs[draw(st.integers(0, 4))] = (pairs[0][0], draw(values()))
    elif flaw == "extension":
        pairs.append((draw(st.sampled_from(["traceparent", *KEYS])), draw(values())))
    elif flaw == "deep":
        pairs[4] = ("data", '{"a":' * 33 + "1" + "}" * 33)
    elif flaw == "raw":
        pairs[4] = ("data", draw(st.sampled_from(['{"k":"\\ud800"}', '{"k":{"a":1,"a":1}}'])))
    spelled = [
        f"{json.dumps(name, ensure_ascii=False)}{draw(spaces)}:{draw(spaces)}{text}"
        for name, text in draw(st.permutations(pairs))
    ]
    return "{" + ",".join(spelled) + draw(spaces) + "}"


def by_hand(text: str) -> str | tuple[Any, ...]:
    """The code an event is rejected with, or what it says, by way of the standard library."""
    found: dict[int, str] = {}

    def pairs_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    try:
        parsed = json.loads(text, object_pairs_hook=pairs_once, parse_int=str, parse_float=str)
        json.dumps(parsed, ensure_ascii=False).encode()
    except ValueError:
        return "invalid_json"
    if depth(parsed) > 32:
        return "invalid_json"
    whole = json.loads(text, parse_int=lambda _: 0, parse_float=lambda _: 0)
    for name in REQUIRED:
        if whole.get(name) is None:
            return "missing_field"
        if not isinstance(whole[name], str):
            return "invalid_field"
    if not isinstance(whole.get("data") or {}, dict) or whole.get("data") in ([], "", 0, False):
        return "invalid_field"
    assert not found
    return tuple(parsed[name] for name in REQUIRED), parsed.get("data") or {}


def depth(value: Any) -> int:
    """How deep objects and arrays are nested."""
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0)


def told(decoded: Decoded) -> list[str | tuple[Any, ...]]:
    """A decoded body in the oracle's words, by index."""
    found: dict[int, Any] = {
        rejection.index: rejection.code.value for rejection in decoded.rejected
    }
    kept = decoded.events
    for place, index in enumerate(kept.index):
        fields = (kept.id[place], kept.source[place], kept.type[place], kept.subject[place])
        data = json.loads(kept.data[place], parse_int=str, parse_float=str)
        found[index] = (fields, data)
    assert sorted(found) == list(range(decoded.received))
    return [found[index] for index in range(decoded.received)]


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(events(), min_size=1, max_size=6))
def test_arrays_say_what_a_careful_parser_says(texts):
    """However spelled, each event is read or rejected like the standard library's parser would."""
    assert told(read("[" + " ,".join(texts) + "]")) == [by_hand(text) for text in texts]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(events(), min_size=1, max_size=5))
def test_every_json_form_agrees(texts):
    """Lines, arrays and single bodies differ in nothing but how events are joined."""
    texts = [text.replace("\n", " ").replace("\r", " ") for text in texts]
    expected = told(read("[" + ",".join(texts) + "]"))
    assert told(read("\n".join(texts) + "\n", NDJSON)) == expected
    assert [told(read(text))[0] for text in texts] == expected


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(events(), max_size=4))
def test_data_is_kept_as_it_was_sent(texts):
    """Not a digit, a space or an escape of the data changes."""
    body = "[" + ",".join(texts) + "]"
    for kept in read(body).events.data:
        assert kept == "{}" or kept in body


BROKEN = [
    "[",
    "[{}",
    "[{}}",
    "[1 2]",
    "[,]",
    "[{}],",
    "[{}] x",
    "{",
    "x",
    '"a"',
    "1",
    "nul",
    "[{'a':1}]",
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_body_is_refused_whole(content):
    """What cannot be taken apart into events is no body of events."""
    with pytest.raises(UnreadableBody):
        read(content)


@pytest.mark.parametrize("media", [ARRAY, NDJSON, ONE, BATCH, "application/vnd.apache.parquet"])
@pytest.mark.parametrize("content", ["", " \r\n\t", "\ufeff"])
def test_an_empty_body_says_so(content, media):
    """Nothing was sent: surely a mistake."""
    with pytest.raises(EmptyBody):
        read(content, media)


def test_an_empty_array_is_no_events():
    """``[]`` is a batch with nothing in it."""
    assert (read("[]").received, read(" [ ] ").received) == (0, 0)


@pytest.mark.parametrize(
    ("media", "content", "fits"),
    [
        (ONE, "{}", True),
        (ONE, "[]", False),
        (BATCH, "[]", True),
        (BATCH, "{}", False),
        ("Application/JSON; charset=UTF-8", "[]", True),
        ("application/json;charset=utf-16", "[]", None),
        ("text/plain", "[]", None),
        ("", "[]", None),
    ],
)
def test_content_types(media, content, fits):
    """A CloudEvents type means what it says; an unknown one is refused as such."""
    if fits:
        read(content, media)
    else:
        with pytest.raises(UnsupportedMediaType if fits is None else UnreadableBody):
            read(content, media)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"id": None}, "missing_field"),
        ({"subject": None}, "missing_field"),
        ({"id": 5}, "invalid_field"),
        ({"type": ["t"]}, "invalid_field"),
        ({"specversion": "0.3"}, "invalid_field"),
        ({"specversion": 1.0}, "invalid_field"),
        ({"time": 1762164900}, "invalid_time"),
        ({"data": [1]}, "invalid_field"),
        ({"data": "x"}, "invalid_field"),
        ({"data": 0}, "invalid_field"),
        ({"data": False}, "invalid_field"),
        ({"data_base64": "e30="}, "invalid_field"),
        ({"datacontenttype": 1}, "invalid_field"),
        ({"x": "y" * 70_000}, "too_large"),
        ({"datacontenttype": "application/json", "dataschema": "s", "traceparent": "00"}, None),
        ({"specversion": None, "time": None, "data": None}, None),
    ],
)
def test_attributes(changes, code):
    """Each flaw has its code, and the other events stand."""
    body = json.dumps([event(id="before"), event(**changes), event(id="after")])
    decoded = read(body)
    assert codes(decoded) == ([] if code is None else [(1, code)])
    assert len(decoded.events) == (3 if code is None else 2)


@pytest.mark.parametrize(
    "element",
    [
        '{"id":"a","id":"a","source":"s","type":"t","subject":"u"}',
        '{"id":"a","\\u0069d":"b","source":"s","type":"t","subject":"u"}',
        '{"id":"a","source":"s","type":"t","subject":"u","data":{"n":1,"n" :2}}',
        '{"id":"a","source":"s","type":"t","subject":"u","data":{"o":[{"n":1,"n":2}]}}',
        '{"id":"a","source":"s","type":"t","subject":"u","x":1,"x":2}',
        '{"id":"a","source":"s","type":"t","subject":"u","data":{"n":1,"\\u006e":"\\":"}}',
        '{"id":"a","source":"s","type":"t","subject":"u","data":{"a":"\\udc00"}}',
        '{"id":"a","source":"s","type":"t","subject":"u","data":{"\\ud800":1}}',
    ],
)
def test_duplicate_keys_and_half_characters(element):
    """Wherever a key stands twice, however spelled, only that event is refused."""
    good = json.dumps(event(id="good", data={"note": 'a ":b" c'}))
    assert codes(read(f"[{good},{element}]")) == [(1, "invalid_json")]
    assert codes(read(f"{good}\n{element}\n", NDJSON)) == [(1, "invalid_json")]
    assert codes(read(element)) == [(0, "invalid_json")]
    many = ",".join([json.dumps(event())] * 60)
    assert codes(read(f"[{many},{element}]")) == [(60, "invalid_json")]
    spaced = element.replace('":', '" :', 2)
    assert codes(read(f"[{many},{spaced}]")) == [(60, "invalid_json")]


def test_text_that_is_not_utf8_is_refused_alone():
    """In a Raw nobody looked yet, whether bytes are text."""
    good = json.dumps(event()).encode()
    bad = json.dumps(event(id="bad", data={"k": "@"})).encode().replace(b"@", b"\xff")
    assert codes(read(b"[" + good + b"," + bad + b"]")) == [(1, "invalid_json")]
    assert codes(read(good + b"\n" + bad, NDJSON)) == [(1, "invalid_json")]


def test_huge_numbers_are_just_text():
    """Numbers no float or machine integer holds are kept, digit for digit."""
    data = '{"a":1E400,"b":' + "9" * 5000 + ',"c":-0.0}'
    body = json.dumps(event()).replace('{"tokens": 5}', data)
    assert read(f"[{body}]").events.data == [data]


def test_lines():
    """Blank lines are no events; a line that cannot be read is rejected by its place."""
    good = json.dumps(event())
    decoded = read(f"\r\n{good}\r\n \n{good[:-1]}\n5\n{good} {good}\n{good}", NDJSON)
    assert decoded.received == 5
    assert codes(decoded) == [(1, "invalid_json"), (2, "invalid_field"), (3, "invalid_json")]


def test_an_event_split_over_lines_is_no_event():
    """Lines are read one by one, even where together they would be JSON."""
    decoded = read('{"id":\n"a","source":"s","type":"t","subject":"u"}', NDJSON)
    assert codes(decoded) == [(0, "invalid_json"), (1, "invalid_json")]


@pytest.mark.parametrize("media", [ARRAY, NDJSON])
def test_too_many_events(media):
    """A body over the limit is refused whole, good or not."""
    for one in (json.dumps(event()), "5"):
        joint, ends = (",", "[]") if media == ARRAY else ("\n", ("", ""))
        body = ends[0] + joint.join([one] * 11) + ends[1]
        with pytest.raises(TooManyEvents):
            read(body, media, events_max=10)
    read("[" + ",".join([json.dumps(event())] * 10) + "]", events_max=10)


def test_a_million_elements_are_refused_without_being_built():
    """The limit holds for elements that are no events at all."""
    with pytest.raises(TooManyEvents):
        read("[" + "1," * 1_100_000 + "1]")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000]
)
def test_bottomless_nesting_does_not_break_the_parser(content):
    """Whatever the recursion limit, it is an answer and not a crash."""
    with pytest.raises(UnreadableBody):
        read(content)


def test_a_deep_event_is_refused_alone():
    """32 levels, the event itself being the first."""
    fits, deep = [event(data=json.loads('{"a":' * n + "1" + "}" * n)) for n in (31, 32)]
    assert codes(read(json.dumps([fits, deep]))) == [(1, "invalid_json")]


HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "caf%C3%A9%20%22x%22",
    "ce-source": "s",
    "ce-type": "t",
    "ce-subject": '"quoted \\" name"',
    "ce-time": "2026-11-03T10:15:00Z",
    "ce-traceparent": "ignored",
}


def binary(content: bytes, media: str = "application/json", **changes: str | None) -> Decoded:
    """Decode a binary-mode request."""
    named = {f"ce-{name}": value for name, value in changes.items()}
    headers = {name: value for name, value in (HEADERS | named).items() if value is not None}
    return decode(Body(content=content, content_type=media, headers=headers))


def test_binary_mode():
    """Attributes come from headers, percent-decoded; the body is the data, as it was sent."""
    kept = binary(b' {"n" : 1e0} ').events
    assert (kept.id, kept.subject, kept.time) == (
        ['café "x"'], ['quoted " name'], ["2026-11-03T10:15:00Z"]
    )  # fmt: skip
    assert kept.data == ['{"n" : 1e0}']
    assert binary(b"", "").events.data == ["{}"]


@pytest.mark.parametrize(
    ("content", "changes", "code"),
    [
        (b"[]", {}, "invalid_field"),
        (b'{"a":1,"a":2}', {}, "invalid_json"),
        (b"{}", {"subject": None}, "missing_field"),
        (b"{}", {"specversion": "2.0"}, "invalid_field"),
        (b'{"a":"\xff"}', {}, "invalid_json"),
    ],
)
def test_binary_mode_rejections(content, changes, code):
    """The same rules as in the other forms."""
    assert codes(binary(content, **changes)) == [(0, code)]


@pytest.mark.parametrize("content", [b"{", b'{},"id":"other"', b'{}],"time":["x"', b"{} {}"])
def test_binary_data_cannot_pose_as_attributes(content):
    """What is not one JSON value is no data."""
    with pytest.raises(UnreadableBody):
        binary(content, time=None)


def test_binary_data_is_json():
    """Other data is refused by its type; whole-event types are never binary mode."""
    with pytest.raises(UnsupportedMediaType):
        binary(b"x", "text/plain")
    assert binary(b"{}", "application/vnd.acme+json").received == 1
    assert binary(json.dumps([event()] * 2).encode(), BATCH).received == 2
