"""Amounts as integers, and how they are spelled."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import InvalidRequest, OutOfRange
from entitlements.amounts import AMOUNT_NANOS_MAX, parse_amount, to_nanos, to_text
from storage.redis.scripts import pack, unpack

NANOS = st.integers(-(10**29), 10**29)


@given(nanos=st.integers(0, AMOUNT_NANOS_MAX - 1))
def test_text_is_read_back_exactly(nanos: int) -> None:
    """What is shown can be sent again and means the same."""
    assert parse_amount(to_text(nanos), pointer="/amount") == nanos


@given(nanos=NANOS)
def test_decimals_of_any_size_convert_exactly(nanos: int) -> None:
    """The decimal context has no say in it."""
    assert to_nanos(Decimal(to_text(nanos))) == nanos


@given(nanos=NANOS)
def test_two_integers_hold_any_total(nanos: int) -> None:
    """Both halves stay below 2^53, where Lua's numbers are exact."""
    hi, lo = (int(part) for part in pack(nanos).split(":"))
    assert unpack(pack(nanos)) == nanos
    assert 0 <= lo < 2**53
    assert abs(hi) < 2**53


@pytest.mark.parametrize("value", ["-1", "1e3", "", " 1", "1.", ".5", "NaN", "٣", True, 1.5, None])
def test_what_is_not_a_plain_decimal_is_refused(value: object) -> None:
    """Negatives, exponents, floats, other scripts' digits: an error that names the field."""
    with pytest.raises(InvalidRequest) as refused:
        parse_amount(value, pointer="/items/0/amount")
    assert refused.value.errors[0].pointer == "/items/0/amount"


def test_the_tenth_decimal_is_refused_unless_it_is_zero() -> None:
    """Nothing is rounded; a zero changes nothing."""
    assert parse_amount("1.1234567890", pointer="/a") == 1_123_456_789
    with pytest.raises(InvalidRequest):
        parse_amount("1.1234567891", pointer="/a")


@pytest.mark.parametrize("value", ["100000000000000000", 10**17, 10**4000])
def test_what_is_not_promised_exact_is_out_of_range(value: object) -> None:
    """10^17 and beyond is refused, as an event's value would be."""
    with pytest.raises(OutOfRange):
        parse_amount(value, pointer="/a")
