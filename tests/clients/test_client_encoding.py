"""Events as bytes: exact, complete, and refused where they would not be."""

from __future__ import annotations

import gzip
import json
import random
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tallyman_client import Event, new_id
from tallyman_client._encoding import amount_text, encode_event, exact_object, pack

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


def encoded(data: Any, *, allow_floats: bool = False, **fields: Any) -> dict[str, Any]:
    """An event with ``data`` as it arrives: numbers as text, so that every digit shows."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    given_fields = {"type": "t", "subject": "s", "id": "i", "source": "x", "time": now} | fields
    content = encode_event(Event(data=data, **given_fields), allow_floats=allow_floats)
    answer: dict[str, Any] = json.loads(content)
    return answer


@given(data=st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES))
def test_json_values_arrive_as_they_are(data: dict[str, Any]) -> None:
    """What JSON can say exactly is what arrives, integers of any size as integers."""
    assert encoded(data)["data"] == data


@given(
    number=st.decimals(allow_nan=False, allow_infinity=False, places=9)
    | st.decimals(allow_nan=False, allow_infinity=False)
)
def test_decimals_arrive_as_strings_of_the_same_value(number: Decimal) -> None:
    """Every digit, never an exponent; what would be absurdly long is refused."""
    if abs(number.adjusted()) > 1_000:
        with pytest.raises(ValueError, match="digits"):
            exact_object({"n": number})
        return
    text = encoded({"n": number})["data"]["n"]
    assert Decimal(text) == number
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)


@pytest.mark.parametrize("data", [{"n": 0.1}, {"a": [{"n": 1.0}]}, {"a": (float("nan"),)}])
def test_floats_are_refused(data: dict[str, Any]) -> None:
    """With the place and what to use instead."""
    with pytest.raises(TypeError, match=r"data\.(n|a\.0).* use Decimal or int"):
        exact_object(data)


def test_floats_can_be_allowed() -> None:
    """Then they go as JSON numbers, except those that JSON does not have."""
    assert exact_object({"n": 0.1}, allow_floats=True) == {"n": 0.1}
    with pytest.raises(ValueError, match="not finite"):
        exact_object({"n": float("inf")}, allow_floats=True)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"n": object()}, TypeError),
        ({"n": {1, 2}}, TypeError),
        ({1: "x"}, TypeError),
        ([1], TypeError),
        ({"n": Decimal("NaN")}, ValueError),
        ({"n": "\ud800"}, ValueError),
        ({"n": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001 - that is the point
    ],
)
def test_what_has_no_exact_form_is_refused(data: Any, error: type[Exception]) -> None:
    """At record(), not by the service later."""
    with pytest.raises(error):
        encoded(data)


def test_nesting_is_bounded() -> None:
    """As the service bounds it, and long before Python's recursion ends."""
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="levels deep"):
        exact_object(deep)


@pytest.mark.parametrize("name", ["type", "subject", "id", "source"])
@pytest.mark.parametrize(
    ("value", "error"), [("", ValueError), ("é" * 129, ValueError), (7, TypeError)]
)
def test_fields_are_checked(name: str, value: Any, error: type[Exception]) -> None:
    """1 to 256 bytes of text."""
    with pytest.raises(error, match=name):
        encoded({}, **{name: value})


def test_time_is_utc_with_microseconds() -> None:
    """Whatever its offset was; without one it is refused."""
    local = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    assert encoded({}, time=local)["time"] == "2026-03-01T10:00:00.000005Z"
    assert encoded({}, time="2026-03-01T10:00:00Z")["time"] == "2026-03-01T10:00:00Z"
    with pytest.raises(ValueError, match="offset"):
        encoded({}, time=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize("amount", [0.5, True, None])
def test_amounts_are_exact(amount: Any) -> None:
    """Ints, Decimals and strings only."""
    with pytest.raises(TypeError):
        amount_text(amount)
    assert [amount_text(x) for x in (7, Decimal("1E+3"), "0.5")] == ["7", "1000", "0.5"]


def test_ids_are_uuid7_in_order_of_time_and_never_alike() -> None:
    """Version and variant bits, the milliseconds in front, 74 random bits."""
    ids = {new_id(1_700_000_000_123_000_000) for _ in range(10_000)}
    assert len(ids) == 10_000
    pattern = r"018bcfe5-687b-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(pattern, each) for each in ids)
    assert new_id(1_700_000_000_123_000_000) < new_id(1_700_000_000_124_000_000)


def test_bodies_are_packed_when_it_is_worth_it_and_believable() -> None:
    """Small ones are not, nor those the service would take for a bomb (over 100:1)."""
    dice = random.Random(1)
    body = json.dumps([dice.random() for _ in range(3_000)]).encode()
    packed, name = pack(body, compression="gzip", bytes_min=1_000)
    assert (gzip.decompress(packed), name) == (body, "gzip")
    packed, name = pack(body, compression="auto", bytes_min=1_000)
    assert (zstandard.ZstdDecompressor().decompress(packed), name) == (body, "zstd")
    assert pack(body, compression="none", bytes_min=1_000) == (body, None)
    assert pack(body[:999], compression="gzip", bytes_min=1_000) == (body[:999], None)
    bomb = b"[" + b" " * 1_000_000 + b"]"
    assert pack(bomb, compression="gzip", bytes_min=1_000) == (bomb, None)
