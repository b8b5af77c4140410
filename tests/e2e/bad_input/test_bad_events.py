"""Hostile events and voids: rejected by code, or refused whole."""

from __future__ import annotations

import datetime as dt
import gzip
import json

import pyarrow as pa
import pytest

from tests.e2e.bad_input.world import (
    ARROW,
    JSON,
    NDJSON,
    PARQUET,
    arrow,
    as_json,
    assert_problem,
    columns,
    hostile,
    kept,
    parquet,
    post_events,
)
from tests.e2e.harness import Service

GOOD = hostile("good")
TABLE = columns(200, data=[{"n": 1}] * 200)
BROKEN_BODIES: dict[str, tuple[bytes, str, int, str]] = {
    "malformed JSON": (b'[{"id": 1', JSON, 400, "unreadable_body"),
    "text after the array": (as_json(GOOD) + b"x", JSON, 400, "unreadable_body"),
    "NaN": (as_json(GOOD).replace(b'"n": 1', b'"n": NaN'), JSON, 400, "unreadable_body"),
    "a leading zero": (as_json(GOOD).replace(b'"n": 1', b'"n": 01'), JSON, 400, "unreadable_body"),
    "a scalar": (b"5", JSON, 400, "unreadable_body"),
    "null": (b"null", JSON, 400, "unreadable_body"),
    "a hundred thousand brackets": (b"[" * 100_000, JSON, 400, "unreadable_body"),
    "nothing": (b"", JSON, 400, "empty_body"),
    "white space": (b" \n ", JSON, 400, "empty_body"),
    "blank lines": (b"\n\n", NDJSON, 400, "empty_body"),
    "an empty Arrow stream": (b"", ARROW, 400, "empty_body"),
    "text/plain": (as_json(GOOD), "text/plain", 415, "unsupported_media_type"),
    "a form": (b"id=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    "Latin-1": (as_json(GOOD), "application/json; charset=latin-1", 415, "unsupported_media_type"),
    "no type": (as_json(GOOD), "", 415, "unsupported_media_type"),
    "one event as a batch": (
        as_json(GOOD)[1:-1],
        "application/cloudevents-batch+json",
        400,
        "unreadable_body",
    ),
    "a batch as one event": (
        as_json(GOOD),
        "application/cloudevents+json",
        400,
        "unreadable_body",
    ),
    "Arrow cut short": (arrow(TABLE)[:-40], ARROW, 400, "unreadable_body"),
    "half an Arrow stream": (arrow(TABLE)[:3000], ARROW, 400, "unreadable_body"),
    "ten bytes of Arrow": (arrow(TABLE)[:10], ARROW, 400, "unreadable_body"),
    "Arrow and more": (arrow(TABLE) + b"junk", ARROW, 400, "unreadable_body"),
    "Parquet as Arrow": (parquet(TABLE), ARROW, 400, "unreadable_body"),
    "Parquet cut short": (parquet(TABLE)[:-9], PARQUET, 400, "unreadable_body"),
    "Arrow as Parquet": (arrow(TABLE), PARQUET, 400, "unreadable_body"),
    "data twice": (
        arrow(columns(1, **{"data": ["{}"], "data.n": [1]})),
        ARROW,
        400,
        "unreadable_body",
    ),
    "binary ids": (arrow(columns(1, id=[b"\xff"])), ARROW, 400, "unreadable_body"),
    "50,001 events": (b"[" + b"{}," * 50_000 + b"{}]", JSON, 413, "too_many_events"),
    "50,001 lines": (b"{}\n" * 50_001, NDJSON, 413, "too_many_events"),
    "50,001 rows": (arrow(columns(50_001)), ARROW, 413, "too_many_events"),
    "17 MiB": (b" " * (17 * 1024**2), JSON, 413, "body_too_large"),
}


@pytest.mark.parametrize("case", BROKEN_BODIES)
def test_a_broken_body_is_refused_whole(service: Service, case: str) -> None:
    """What cannot be read as what it claims to be is a problem, and none of it is kept."""
    content, kind, status, code = BROKEN_BODIES[case]
    assert_problem(post_events(service, content, content_type=kind), status, code)


COMPRESSED: dict[str, tuple[bytes, str, int, str]] = {
    "not gzip": (b"abc", "gzip", 400, "unreadable_body"),
    "gzip cut short": (gzip.compress(as_json(GOOD))[:-5], "gzip", 400, "unreadable_body"),
    "gzip and more": (gzip.compress(as_json(GOOD)) + b"junk", "gzip", 400, "unreadable_body"),
    "gzip of nothing": (gzip.compress(b""), "gzip", 400, "empty_body"),
    "a gzip bomb": (gzip.compress(b" " * 100_000_000), "gzip", 413, "body_too_large"),
    "over 100:1": (gzip.compress(b"[" + b" " * 9_000_000 + b"]"), "gzip", 413, "body_too_large"),
    "not zstd": (b"abc", "zstd", 400, "unreadable_body"),
    "brotli": (b"abc", "br", 415, "unsupported_media_type"),
    "twice": (gzip.compress(b"[]"), "gzip, gzip", 415, "unsupported_media_type"),
}


@pytest.mark.parametrize("case", COMPRESSED)
def test_a_broken_encoding_is_refused_whole(service: Service, case: str) -> None:
    """Inflating stops at the limits, and errors of the encoding are the caller's."""
    content, encoding, status, code = COMPRESSED[case]
    answer = post_events(service, content, content_type=JSON, content_encoding=encoding)
    assert_problem(answer, status, code)


def with_value(number: str) -> bytes:
    """An array of one event whose metered value is this JSON text."""
    return as_json(hostile("value")).replace(b'"n": 1', b'"n": ' + number.encode())


def nested(levels: int) -> bytes:
    """An array of one event that is nested this deep."""
    inner = "[" * (levels - 2) + "]" * (levels - 2)
    return as_json(hostile("nested")).replace(b'"n": 1', b'"n": 1, "deep": ' + inner.encode())


def with_time(text: object) -> bytes:
    """An array of one event with this time."""
    return as_json(hostile("time", time=text))


REJECTED_EVENTS: dict[str, tuple[bytes, str]] = {
    **{f"no {name}": (as_json(hostile("x") | {name: None}), "missing_field")
       for name in ("id", "source", "type", "subject")},
    **{f"{name} is a number": (as_json(hostile("x") | {name: 5}), "invalid_field")
       for name in ("id", "source", "type", "subject")},
    **{f"{name} is empty": (as_json(hostile("x") | {name: ""}), "invalid_field")
       for name in ("id", "source", "type", "subject")},
    **{f"{name} of 257 bytes": (as_json(hostile("x") | {name: "é" * 128 + "x"}), "invalid_field")
       for name in ("id", "source", "type", "subject")},
    "NUL in the id": (as_json(hostile("a\0b")), "invalid_field"),
    "an element that is no object": (b"[5]", "invalid_field"),
    "data is a list": (as_json(hostile("x", data=[1])), "invalid_field"),
    "data is text": (as_json(hostile("x", data="n")), "invalid_field"),
    "another specversion": (as_json(hostile("x", specversion="0.3")), "invalid_field"),
    "invalid UTF-8": (as_json(hostile("x@")).replace(b"@", b"\xff"), "invalid_json"),
    "half a surrogate pair": (as_json(hostile("x\ud800")), "invalid_json"),
    "a key twice": (as_json(hostile("x"))[:-2] + b', "id": "y"}]', "invalid_json"),
    "a key twice in data": (with_value('1, "n": 2'), "invalid_json"),
    "a key twice, escaped": (with_value('1, "\\u006e": 2'), "invalid_json"),
    "33 levels": (nested(33), "invalid_json"),
    "65 KiB": (as_json(hostile("x", data={"n": 1, "k": "x" * 65 * 1024})), "too_large"),
    "a time without offset": (with_time("2026-03-15T12:00:00"), "invalid_time"),
    "a date": (with_time("2026-03-15"), "invalid_time"),
    "no such day": (with_time("2026-02-30T00:00:00Z"), "invalid_time"),
    "before 2000": (with_time("1999-12-31T23:59:59Z"), "invalid_time"),
    "in 2100": (with_time("2100-01-01T00:00:00Z"), "invalid_time"),
    "the year 9999": (with_time("9999-12-31T23:59:59Z"), "invalid_time"),
    "the year 0": (with_time("0000-01-01T00:00:00Z"), "invalid_time"),
    "over an hour ahead": (with_time("2026-03-15T13:00:00.000001Z"), "invalid_time"),
    "nanoseconds": (with_time("2026-03-15T11:00:00.1234567Z"), "invalid_time"),
    "Unix time": (with_time(1_773_576_000), "invalid_time"),
    "words": (with_time("yesterday"), "invalid_time"),
    "64 digits": (with_value("9" * 64), "out_of_range"),
    "64 digits as text": (with_value('"' + "9" * 64 + '"'), "out_of_range"),
    "5,000 digits": (with_value("9" * 5000), "out_of_range"),
    "10^17": (with_value("100000000000000000"), "out_of_range"),
    "a huge exponent": (with_value("1e999999999"), "out_of_range"),
    "ten decimals": (with_value("0.1234567891"), "too_precise"),
    "a tiny exponent": (with_value("1e-999999999"), "too_precise"),
    "a long fraction": (with_value("12345678.123456789"), "inexact_number"),
    "a word as the value": (with_value('"many"'), "invalid_value"),
    "an empty text as the value": (with_value('""'), "invalid_value"),
    "a boolean as the value": (with_value("true"), "invalid_value"),
    "a list as the value": (with_value("[]"), "invalid_value"),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTED_EVENTS)
def test_a_bad_event_is_rejected_by_code(service: Service, case: str) -> None:
    """A readable body is 200; the event is named by index, with the code of its mistake."""
    content, code = REJECTED_EVENTS[case]
    answer = post_events(service, content, content_type=JSON)

    assert answer.status_code == 200, answer.text
    assert (answer.json()["accepted"], answer.json()["duplicates"]) == (0, 0)
    [rejected] = answer.json()["rejected"]
    assert rejected.keys() == {"index", "id", "code", "detail"}
    assert (rejected["index"], rejected["code"]) == (0, code), rejected


@pytest.mark.parametrize("case", REJECTED_EVENTS)
def test_a_bad_event_spoils_an_atomic_body(service: Service, case: str) -> None:
    """With ``atomic`` its neighbour is not kept either."""
    content, code = REJECTED_EVENTS[case]
    pair = as_json(GOOD)[:-1] + b"," + content[1:]
    headers = {"content-type": JSON}
    answer = service.client.post("/v1/events?atomic=true", content=pair, headers=headers)

    assert_problem(answer, 422, "events_rejected")
    assert [(each["index"], each["code"]) for each in answer.json()["rejected"]] == [(1, code)]


@pytest.mark.parametrize("form", [arrow, parquet], ids=["Arrow", "Parquet"])
def test_bad_rows_are_rejected_one_by_one(service: Service, form: object) -> None:
    """Columns are checked like JSON: missing fields, values, times and JSON text."""
    assert callable(form)
    media = ARROW if form is arrow else PARQUET
    tables = {
        "missing_field": columns(1, subject=pa.array([None], pa.string())),
        "invalid_field": columns(1, id=[5]),
        "invalid_json": columns(1, data=['{"n": 1, "n": 2}']),
        "invalid_value": columns(1, **{"data.n": [float("nan")]}),
        "out_of_range": columns(1, **{"data.n": pa.array([2**64 - 1], pa.uint64())}),
        "invalid_time": columns(1, time=[dt.datetime(1970, 1, 1)]),  # noqa: DTZ001 - no zone = UTC
        "too_large": columns(1, data=['{"k": "' + "x" * 66_000 + '"}']),
    }
    for code, table in tables.items():
        answer = post_events(service, form(table), content_type=media)
        assert answer.status_code == 200, answer.text
        assert [each["code"] for each in answer.json()["rejected"]] == [code]
    assert kept(service) == []


def test_a_bad_line_is_rejected_alone(service: Service) -> None:
    """NDJSON goes on after a line that cannot be parsed; empty lines have no index."""
    lines = [hostile("n1", subject="fine"), hostile("n2", subject="fine")]
    texts = [json.dumps(line).encode() for line in lines]
    body = b"\n".join([texts[0], b"{bad", b"", b'{"id": "\xff"}', texts[1], b"[]"])
    answer = post_events(service, body, content_type=NDJSON).json()

    assert answer["accepted"] == 2
    assert [(each["index"], each["code"]) for each in answer["rejected"]] == [
        (1, "invalid_json"),
        (2, "invalid_json"),
        (4, "invalid_field"),
    ]


HEADERS = {"ce-id": "bin", "ce-source": "tests", "ce-type": "tokens", "ce-subject": "hostile"}


def test_bad_binary_mode(service: Service) -> None:
    """CloudEvents binary mode is refused or rejected like the rest."""
    refused = post_events(service, b'{"n', content_type=JSON, **HEADERS)
    text = post_events(service, b"n", content_type="text/plain", **HEADERS)
    late = post_events(service, b"{}", content_type=JSON, **(HEADERS | {"ce-time": "soon"}))
    nameless = post_events(service, b"{}", content_type=JSON, **(HEADERS | {"ce-subject": ""}))

    assert_problem(refused, 400, "unreadable_body")
    assert_problem(text, 415, "unsupported_media_type")
    assert late.json()["rejected"][0]["code"] == "invalid_time"
    assert nameless.json()["accepted"] == 0
    assert kept(service) == []


VOID_BODIES = [
    (b"", 400, "empty_body"),
    (b"[{", 400, "unreadable_body"),
    (b'[{"source": "\xff", "id": "x"}]', 400, "unreadable_body"),
    (b'[{"source": "a", "source": "b", "id": "x"}]', 400, "unreadable_body"),
    (b"[" * 5_000, 400, "unreadable_body"),
    (b"{}", 422, "invalid_request"),
    (b"[null]", 422, "invalid_request"),
    (b'[{"source": "a"}]', 422, "invalid_request"),
    (b'[{"source": 5, "id": "x"}]', 422, "invalid_request"),
    (b'[{"source": "a", "id": "x", "colour": "red"}]', 422, "invalid_request"),
]


@pytest.mark.parametrize(("content", "status", "code"), VOID_BODIES)
def test_a_bad_void_voids_nothing(service: Service, content: bytes, status: int, code: str) -> None:
    """Voids are read as strictly as events."""
    headers = {"content-type": JSON}
    answer = service.client.post("/v1/events/void", content=content, headers=headers)
    assert_problem(answer, status, code)
