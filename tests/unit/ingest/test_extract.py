"""Facts are what a person reading each event's JSON would write down."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.clock import Micros
from catalog.events import FACTS, RECORDS, RecordKind
from catalog.ids import MeterId, NodeId
from catalog.meters import Aggregation, Condition, FactSpec, Meter
from catalog.snapshot import Catalog, Chain, Version
from ingest.extract import extract_facts, specs_of
from tests.unit.ingest.json_texts import objects

NODE = NodeId("n1")
START = datetime(2026, 11, 3, tzinfo=UTC)
PATHS = [
    "data.a",
    "data.b",
    "data.tokens",
    "data.a.b",
    "data.a.c",
    "data.ключ",
    "data.x y",
    "data.é",
]
WIDE = Context(prec=100_000, Emax=10**17, Emin=-(10**17))


def records(data: list[str], *, types: list[str] | None = None) -> pl.DataFrame:
    """RECORDS of events with the given data, all of type ``t`` unless told."""
    rows = [
        {
            "seq": place + 1,
            "received_at": START + timedelta(microseconds=place),
            "kind": RecordKind.EVENT.value,
            "source": "s",
            "id": str(place),
            "type": types[place] if types else "t",
            "subject": f"subject {place % 3}",
            "time": START - timedelta(hours=place),
            "time_given": True,
            "data": text,
        }
        for place, text in enumerate(data)
    ]
    return pl.DataFrame(rows, schema=RECORDS)


def spec(**changes: Any) -> FactSpec:
    """A spec that counts events of type ``t``, with changes."""
    counting = FactSpec(event_types=("t",), value=None, as_text=False, dimensions=(), filter=())
    return replace(counting, **changes)


class Number(str):
    """A number's text, told apart from a string."""

    __slots__ = ()


def facts_by_hand(frame: pl.DataFrame, asked: FactSpec) -> list[tuple[Any, ...]]:
    """What a person would write down, event by event: (seq, value, text, dimensions)."""
    found = []
    for row in frame.iter_rows(named=True):
        if row["kind"] != RecordKind.EVENT or row["type"] not in asked.event_types:
            continue
        data = json.loads(row["data"], parse_int=Number, parse_float=Number)
        if not all(passes(at(data, condition.path), condition) for condition in asked.filter):
            continue
        dimensions = {
            name: bare(at(data, path))
            for name, path in asked.dimensions
            if at(data, path) is not None
        }
        spelled = json.dumps(dimensions, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        read = None if asked.value is None else at(data, asked.value)
        value = None if read is None or asked.as_text else quantity(read)
        found.append((row["seq"], value, read if asked.as_text else None, spelled))
    return found


def at(data: Any, path: str) -> Any:
    """The value at a path, None where absent."""
    for key in path.removeprefix("data.").split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data


def bare(value: Any) -> str:
    """A value as dimensions show it."""
    if isinstance(value, str):
        return str(value)
    return spell(value)


def spell(value: Any) -> str:
    """Canonical JSON with numbers by value."""
    if isinstance(value, Number):
        return by_value(value)
    if isinstance(value, dict):
        pairs = [f"{spell(key)}:{spell(item)}" for key, item in sorted(value.items())]
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(spell(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def by_value(text: str) -> str:
    """One spelling a number, by way of Decimal."""
    if len(text.lower().partition("e")[2].strip("+-")) > 17:
        digits = text.lower().partition("e")[0].strip("-0.")
        return text.lower() if digits else "0"
    number = WIDE.create_decimal(text)
    if not number:
        return "0"
    plain = number.normalize(WIDE)
    exponent = plain.as_tuple().exponent
    if -40 <= exponent <= 40:
        return format(plain, "f")
    return ("-" if plain < 0 else "") + "".join(map(str, plain.as_tuple().digits)) + f"e{exponent}"


def quantity(read: Any) -> Decimal | None:
    """A value as a quantity, None where unreadable."""
    if not isinstance(read, str):
        return None
    try:
        token = json.loads(read, parse_int=Number, parse_float=Number)
    except ValueError:
        return None
    if not isinstance(token, Number) or token != read:
        return None
    if len(token.lower().partition("e")[2].strip("+-")) > 17:
        return None if token.lower().partition("e")[0].strip("-0.") else Decimal(0)
    number = WIDE.create_decimal(token)
    if number and (number.adjusted() >= 17 or number.normalize(WIDE).as_tuple().exponent < -9):
        return None
    return number


def passes(value: Any, condition: Condition) -> bool:
    """Whether one value passes one condition."""
    if condition.exists is False:
        return value is None
    if value is None:
        return condition.optional
    if condition.included is not None and bare(value) not in condition.included:
        return False
    return condition.excluded is None or bare(value) not in condition.excluded


@st.composite
def specs(draw: st.DrawFn) -> FactSpec:
    """Any spec over the paths that the random objects have."""
    paths = st.sampled_from(PATHS)
    answers = st.lists(st.sampled_from(["1", "1.0", "true", "", "a", "{}"]), max_size=3).map(tuple)
    conditions = st.one_of(
        st.builds(Condition, path=paths, included=answers, optional=st.booleans()),
        st.builds(Condition, path=paths, excluded=answers, optional=st.booleans()),
        st.builds(Condition, path=paths, exists=st.booleans()),
    )
    named = st.dictionaries(st.sampled_from(["d", "é", 'q"', "z"]), paths, max_size=3)
    value = draw(st.one_of(st.none(), paths))
    return spec(
        event_types=draw(st.sampled_from([("t",), ("u",), ("t", "u")])),
        value=value,
        as_text=value is not None and draw(st.booleans()),
        dimensions=tuple(sorted(draw(named).items())),
        filter=tuple(draw(st.lists(conditions, max_size=2))),
    )


@settings(max_examples=80, deadline=None)
@given(
    data=st.lists(st.tuples(objects(), st.sampled_from(["t", "u", "v"])), max_size=8),
    asked=st.lists(specs(), min_size=1, max_size=3),
    missing=st.booleans(),
)
def test_facts_match_reading_each_event_by_hand(data, asked, missing):
    """Whatever the JSON's spelling, the frame says what a naive parser says, digit for digit."""
    frame = records([text for text, _ in data], types=[kind for _, kind in data])
    facts = extract_facts(frame, asked, node=NODE, missing=missing)
    assert facts.schema == FACTS
    for each in {one.id: one for one in asked}.values():
        mine = facts.filter(pl.col("spec") == each.id)
        expected = facts_by_hand(frame, each)
        if each.as_text:
            expected = [
                (*row[:2], None if row[2] is None else spell(row[2]), row[3]) for row in expected
            ]
        if each.value is not None and not missing:
            expected = [row for row in expected if row[1] is not None or row[2] is not None]
        assert mine.select("seq", "value", "text", "dimensions").rows() == expected


@settings(max_examples=30, deadline=None)
@given(data=st.lists(objects(), min_size=1, max_size=6), asked=specs())
def test_a_fact_is_the_same_alone_or_in_a_batch(data, asked):
    """What else was sent together never changes what is read from an event."""
    frame = records(data)
    alone = [extract_facts(frame[place], [asked], node=NODE) for place in range(len(data))]
    assert pl.concat(alone).equals(extract_facts(frame, [asked], node=NODE))


def test_a_fact_carries_its_event():
    """Node, seq, subject and both times are the record's own."""
    frame = records(['{"n": 1}', '{"n": 2}'])
    facts = extract_facts(frame, [spec(value="data.n")], node=NODE)
    carried = frame.select("seq", "subject", "time", "received_at")
    assert facts.select("seq", "subject", "time", "received_at").equals(carried)
    assert facts["node"].to_list() == ["n1", "n1"]


@pytest.mark.parametrize("kind", [kind for kind in RecordKind if kind is not RecordKind.EVENT])
def test_only_events_have_facts(kind):
    """Voids, holds and heartbeats are not usage, whatever their other columns say."""
    frame = records(['{"n": 1}']).with_columns(kind=pl.lit(kind.value, pl.UInt8))
    assert extract_facts(frame, [spec()], node=NODE).is_empty()


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("9007199254740993", "9007199254740993"),
        ("18446744073709551616e-9", "18446744073.709551616"),
        ('"99999999999999999.999999999"', "99999999999999999.999999999"),
        ("1234567890.123456789", "1234567890.123456789"),
        ("-0.000000001", "-0.000000001"),
        ("1e3", "1000"),
        ("100000000000000000", None),
        ("0.0000000001", None),
        ('"12abc"', None),
        ('" 12"', None),
        ('"+1"', None),
        ("true", None),
        ("{}", None),
        ("[1]", None),
        ('"٣"', None),
    ],
)
def test_values_are_exact_or_missing(token, value):
    """No digit goes through a double; what is no quantity counts as missing."""
    facts = extract_facts(
        records([f'{{"n":{token}}}']), [spec(value="data.n")], node=NODE, missing=True
    )
    assert facts["value"].to_list() == [None if value is None else Decimal(value)]


@pytest.mark.parametrize(
    ("token", "bare", "distinct"),
    [
        ('"eu"', "eu", '"eu"'),
        ('"\\u0065\\u0075"', "eu", '"eu"'),
        ('"a\\"\\\\b\\n"', 'a"\\b\n', '"a\\"\\\\b\\n"'),
        ('"\\u0000"', "\x00", '"\\u0000"'),
        ('""', "", '""'),
        ('"{"', "{", '"{"'),
        ('"null"', "null", '"null"'),
        ("1.50", "1.50", "1.5"),
        ("-0", "-0", "0"),
        ("1e2", "1e2", "100"),
        ("true", "true", "true"),
        ('{"b" : 1.0, "a":[]}', '{"a":[],"b":1}', '{"a":[],"b":1}'),
        ("null", None, None),
    ],
)
def test_what_dimensions_filters_and_distinct_values_see(token, bare, distinct):
    """One value, read in three ways: as text, compared as text, and by its value as JSON."""
    frame = records([f'{{"k": {token} ,"other":1}}'])
    asked = spec(value="data.k", as_text=True, dimensions=(("d", "data.k"),))
    fact = extract_facts(frame, [asked], node=NODE, missing=True).row(0, named=True)
    assert json.loads(fact["dimensions"]) == ({} if bare is None else {"d": bare})
    assert fact["text"] == distinct
    included = Condition(path="data.k", included=(bare or "",))
    kept = extract_facts(frame, [spec(filter=(included,))], node=NODE)
    assert kept.height == (bare is not None)


def test_one_odd_row_spoils_no_other():
    """Rows that are not objects at all (none should ever be) read as empty, and only they do."""
    frame = records(['{"n":1}', "[]", "{", '{"n":2}', "{},{}"])
    facts = extract_facts(frame, [spec(value="data.n")], node=NODE, missing=True)
    assert facts["value"].to_list() == [1, None, None, 2, None]


def test_many_rows_are_read_in_order():
    """However many rows a page has, they come out in order, each once."""
    frame = records([f'{{"n":{n}}}' for n in range(40_000)])
    facts = extract_facts(frame, [spec(value="data.n")], node=NODE)
    assert facts["value"].cast(pl.Int64).to_list() == list(range(40_000))


def test_every_version_of_every_meter_has_its_spec():
    """Superseded versions still price their own time, so their facts are needed too."""
    old = Meter(id=MeterId("m"), event_types=("t",), aggregation=Aggregation.COUNT)
    new = replace(old, aggregation=Aggregation.SUM, value="data.n")
    versions = [
        Version(
            value=m, effective_from=None, effective_until=None, recorded_at=Micros(0), revision=1
        )
        for m in (old, new)
    ]
    catalog = Catalog(meters={MeterId("m"): Chain(versions=tuple(versions))})
    assert specs_of(catalog) == {meter.fact_spec.id: meter.fact_spec for meter in (old, new)}
