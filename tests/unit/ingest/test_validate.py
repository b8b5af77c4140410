"""Validation: one set of rules, and column tests that only ever spare them work."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.clock import Micros, to_micros
from catalog.ids import MeterId
from catalog.meters import Aggregation, Condition, Meter
from catalog.snapshot import Catalog, Chain, Version
from ingest.batch import Body, Checked, Columns, Decoded
from ingest.decode import decode
from ingest.times import parse_time, parse_times
from ingest.validate import validate
from ingest.values import IngestRules
from tests.unit.ingest.fakes import NOW, TIME, event, rows_of, standard
from tests.unit.ingest.json_texts import objects

TOKENS = Meter(
    id=MeterId("m"), event_types=("t",), aggregation=Aggregation.SUM, value="data.tokens"
)


MAYBE_ONE = Condition(path="data.x", included=("1",), optional=True)
NEARLY = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(\.[0-9]{1,8})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def rules(*meters: Meter) -> IngestRules:
    """The rules of meters, each in one version."""
    chains = {
        MeterId(str(place)): Chain(
            versions=(
                Version(
                    value=meter,
                    effective_from=None,
                    effective_until=None,
                    recorded_at=Micros(0),
                    revision=1,
                ),
            )
        )
        for place, meter in enumerate(meters)
    }
    return IngestRules.from_catalog(Catalog(meters=chains))


def code_of(text: str, *meters: Meter) -> str | None:
    """The code one event's JSON is rejected with."""
    decoded = decode(Body(content=text.encode(), content_type="application/json"))
    rejected = validate(decoded, standard(rules(*meters))).rejected
    return rejected[0].code.value if rejected else None


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("5", None), ("-5", None), ("0", None), ("-0.0", None), ("1e3", None), ("1.5E-3", None),
        ('"5"', None), ('"-0.000000001"', None), ('"1e3"', None), ('"\\u0035"', None),
        ("null", None), ("99999999999999999", None), ('"99999999999999999.999999999"', None),
        ("123456789012345.6", "inexact_number"), ('"123456789012345.6"', None),
        ("1.50000000000000000000", None), ("100000.123456789", None),
        ("0.1234567890123456", "inexact_number"), ('"0.1234567890123456"', "too_precise"),
        ("0.1234567890", None), ("0.1234567891", "too_precise"), ("1e-10", "too_precise"),
        ("100000000000000000", "out_of_range"), ("-1e17", "out_of_range"),
        ("1E400", "out_of_range"),
        ("123456789012345678.5", "out_of_range"), ("9" * 400, "out_of_range"),
        ('"12abc"', "invalid_value"), ('""', "invalid_value"), ('" 5"', "invalid_value"),
        ('"+5"', "invalid_value"), ('"0x10"', "invalid_value"), ('"NaN"', "invalid_value"),
        ('"05"', "invalid_value"), ("true", "invalid_value"), ("{}", "invalid_value"),
        ("[5]", "invalid_value"), ('"null"', "invalid_value"), ('"٥"', "invalid_value"),
    ],
)  # fmt: skip
def test_values_a_meter_reads(token, code):
    """Every number is exact, or refused with the reason; the same at scale as alone."""
    text = json.dumps(event()).replace('{"tokens": 5}', f'{{"tokens":{token}}}')
    assert code_of(text, TOKENS) == code
    assert code_of(text) is None
    many = [text.replace('"e1"', f'"e{n}"') for n in range(20)]
    many[3] = json.dumps(event(id="e3", data={"tokens": 1.5}))
    decoded = decode(Body(content=f"[{','.join(many)}]".encode(), content_type="application/json"))
    expected = [] if code is None else [(n, code) for n in range(20) if n != 3]
    told = validate(decoded, standard(rules(TOKENS))).rejected
    assert [(each.index, each.code.value) for each in told] == expected


@pytest.mark.parametrize(
    ("meter", "code"),
    [
        (TOKENS, "invalid_value"),
        (replace(TOKENS, event_types=("other",)), None),
        (replace(TOKENS, value="data.more.tokens"), None),
        (replace(TOKENS, value="data.in.n"), "invalid_value"),
        (replace(TOKENS, value="data.tokens.n"), None),
        (replace(TOKENS, aggregation=Aggregation.UNIQUE_COUNT), None),
        (replace(TOKENS, aggregation=Aggregation.COUNT, value=None), None),
        (replace(TOKENS, filter=(Condition(path="data.kind", included=("b",)),)), None),
        (replace(TOKENS, filter=(Condition(path="data.kind", included=("a",)),)), "invalid_value"),
        (replace(TOKENS, filter=(Condition(path="data.kind", excluded=("a",)),)), None),
        (replace(TOKENS, filter=(Condition(path="data.kind", exists=False),)), None),
        (replace(TOKENS, filter=(Condition(path="data.x", exists=False),)), "invalid_value"),
        (replace(TOKENS, filter=(MAYBE_ONE,)), "invalid_value"),
    ],
)  # fmt: skip
def test_only_what_a_meter_reads_is_judged(meter, code):
    """Types, paths and filters decide whether a strange value matters."""
    text = json.dumps(event(data={"tokens": "many", "kind": "a", "in": {"n": "x"}}))
    assert code_of(text, meter) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"id": ""}, "invalid_field"),
        ({"subject": "x" * 256}, None),
        ({"subject": "x" * 257}, "invalid_field"),
        ({"subject": "é" * 129}, "invalid_field"),
        ({"source": "a\x00b"}, "invalid_field"),
        ({"source": "tallyman"}, "invalid_field"),
        ({"source": "tallyman2"}, None),
        ({"data": {"a": "x" * 65_400}}, None),
        ({"data": {"a": "x" * 65_530}}, "too_large"),
        ({"time": ""}, "invalid_time"),
        ({"time": "2026-11-03"}, "invalid_time"),
        ({"time": "2026-11-03T09:15:00"}, "invalid_time"),
        ({"time": "2026-11-03T09:15:00.1234567Z"}, "invalid_time"),
        ({"time": "2026-11-03T09:15:00.123456000Z"}, None),
        ({"time": "2026-11-03t09:15:00z"}, None),
        ({"time": "2026-11-03T11:00:00Z"}, None),
        ({"time": "2026-11-03T11:00:00.000001Z"}, "invalid_time"),
        ({"time": "2026-11-03T23:00:00+12:00"}, None),
        ({"time": "2000-01-01T00:00:00Z"}, None),
        ({"time": "1999-12-31T23:59:59.999999Z"}, "invalid_time"),
        ({"time": "2100-01-01T00:00:00Z"}, "invalid_time"),
        ({"time": "2026-02-29T00:00:00Z"}, "invalid_time"),
        ({"time": "2024-02-29T00:00:00Z"}, None),
        ({"time": "2026-01-01T23:59:60Z"}, "invalid_time"),
        ({"time": None}, None),
    ],
)
def test_fields_and_times(changes, code):
    """Each rule, for an event alone and one of many."""
    assert code_of(json.dumps(event(**changes))) == code
    many = [event(id=f"e{n}") for n in range(30)]
    many[7] = event(**({"id": "e7"} | changes))
    body = Body(content=json.dumps(many).encode(), content_type="application/json")
    checked = validate(decode(body), standard())
    assert [(each.index, each.code.value) for each in checked.rejected] == (
        [] if code is None else [(7, code)]
    )
    assert len(checked) == (30 if code is None else 29)


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    """Decoded events, some odd in any column."""
    count = draw(st.integers(8, 14))
    texts = st.sampled_from(["a", "t", "", "\x00", "x" * 65, "é" * 100, "é" * 200, "x" * 256])
    times = st.one_of(
        st.sampled_from([TIME, "2026-11-03T10:15:00+01:00", "soon", "2026-13-01T00:00:00Z"]),
        st.sampled_from(["2026-11-03T09:15:00.1Z", "2027-01-01T00:00:00Z", "", None]),
        st.sampled_from([NOW, NOW + 10**12, 0]),
    )
    same = draw(st.booleans())
    kind = st.just(draw(times)) if same else times

    def column(values: st.SearchStrategy[Any], usual: Any) -> list[Any]:
        odd = draw(st.booleans())
        return draw(st.lists(values, min_size=count, max_size=count)) if odd else [usual] * count

    data = column(st.one_of(objects(), st.just('{"a":"' + "x" * 65_500 + '"}')), '{"tokens":1}')
    parsed = [json.loads(text) for text in data] if draw(st.booleans()) else None
    return Columns(
        index=range(count),
        source=column(texts, "s"),
        id=column(texts, "i"),
        type=column(texts, "t"),
        subject=column(texts, "u"),
        time=column(kind, TIME),
        data=data,
        parsed=parsed,
    )


def told(checked: Checked) -> dict[int, Any]:
    """What validation made of each event, by index."""
    found = {each.index: (each.code, each.detail) for each in checked.rejected}
    return found | {row["index"]: (row["id"], row["time"], row["data"]) for row in rows_of(checked)}


@settings(max_examples=80, deadline=None)
@given(events=columns())
def test_many_are_judged_like_one(events):
    """Whole-column tests never change what the rules say about an event."""
    held = standard(rules(TOKENS, replace(TOKENS, value="data.a.b")))
    together = told(validate(Decoded(events=events, rejected=[], received=len(events)), held))
    alone: dict[int, Any] = {}
    for row in range(len(events)):
        one = Decoded(events=events.keep([row]), rejected=[], received=1)
        alone |= told(validate(one, held))
    assert together == alone


zones = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)  # noqa: DTZ001


@given(moment=moments, digits=st.integers(0, 6))
def test_times_read_like_the_standard_library(moment, digits):
    """Any offset, any fraction: both readers agree with datetime."""
    unit = 10 ** (6 - digits)
    moment = moment.replace(microsecond=moment.microsecond // unit * unit)
    fraction = f".{moment.microsecond:06d}"[: digits + 1] if digits else ""
    text = moment.strftime("%Y").rjust(4, "0") + moment.strftime("-%m-%dT%H:%M:%S") + fraction
    offset = moment.strftime("%z")
    text += "Z" if moment.utcoffset() == timedelta(0) else f"{offset[:3]}:{offset[3:]}"
    expected = to_micros(moment.astimezone(UTC))
    micros, read = parse_times([text])
    assert parse_time(text) == expected
    assert (micros.tolist(), read.tolist()) == ([expected], [True])


@settings(max_examples=150)
@given(
    texts=st.lists(
        st.one_of(
            st.from_regex(NEARLY, fullmatch=True),
            st.text("0123456789-+:.TZ", min_size=18, max_size=34),
            st.text(max_size=30),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_the_quick_reader_reads_nothing_else(texts):
    """What the column reader takes for a time, the careful one reads to the same instant."""
    micros, read = parse_times(texts)
    for text, value, known in zip(texts, micros.tolist(), read.tolist(), strict=True):
        if known and int(text[:4]) > 0:
            assert parse_time(text) == value


def test_every_version_of_a_meter_counts():
    """A version that holds at another time still reads the events of that time."""
    chain = [TOKENS, replace(TOKENS, value="data.later")]
    assert {spec.value for spec in rules(*chain).specs["t"]} == {"data.tokens", "data.later"}
