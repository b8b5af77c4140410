"""What an API key looks like and when it opens anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.clock import Micros
from catalog.keys import (
    RANDOM_BYTES,
    KeyId,
    KeyRecord,
    Scope,
    allows,
    key_digest,
    key_id,
    make_key,
)

RANDOMNESS = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


def record(**fields: object) -> KeyRecord:
    """A key with the scope read, made at instant 0."""
    defaults = {
        "id": KeyId("k"),
        "digest": b"",
        "name": "k",
        "scopes": frozenset({Scope.READ}),
        "created_at": Micros(0),
    }
    return KeyRecord(**{**defaults, **fields})


@given(randomness=RANDOMNESS)
def test_a_made_key_is_read_back(randomness: bytes) -> None:
    """The id in the text is the id that was made, and the text fits an HTTP header."""
    identity, text = make_key(randomness)
    assert key_id(text) == identity
    assert text.startswith(f"tm_{identity}_")
    assert text.isascii()
    assert text.replace("_", "").isalnum()


@given(randomness=RANDOMNESS, place=st.integers(min_value=0), with_=st.sampled_from("abz2_X"))
def test_a_typo_is_noticed(randomness: bytes, place: int, with_: str) -> None:
    """No key with one character changed passes as a key."""
    _, text = make_key(randomness)
    place %= len(text)
    damaged = text[:place] + with_ + text[place + 1 :]
    assert damaged == text or key_id(damaged) is None


@pytest.mark.parametrize("text", ["", "tm", "tm_a_b", "tm_a_b_c", "x" * 64, "tm_é_b_00000000"])
def test_other_texts_are_no_keys(text: str) -> None:
    """Texts of another shape have no id, and may still be a key that an operator chose."""
    assert key_id(text) is None
    assert len(key_digest(text)) == 32


def test_keys_differ_in_id_and_digest() -> None:
    """The id comes from the first bytes, the secret from the others."""
    one, first = make_key(bytes(RANDOM_BYTES))
    two, second = make_key(bytes(RANDOM_BYTES - 1) + b"\x01")
    assert one == two
    assert first != second
    assert key_digest(first) != key_digest(second)
    with pytest.raises(ValueError, match="30 random bytes"):
        make_key(b"short")


def test_a_key_lives_until_it_expires_or_is_revoked() -> None:
    """The expiry itself is already too late; a revocation has no way back."""
    assert record().is_live(10**18)
    assert record(expires_at=Micros(100)).is_live(99)
    assert not record(expires_at=Micros(100)).is_live(100)
    assert not record(revoked_at=Micros(100)).is_live(50)


def test_admin_implies_every_scope() -> None:
    """The other scopes imply only themselves."""
    assert all(record(scopes=frozenset({Scope.ADMIN})).allows(scope) for scope in Scope)
    assert [scope for scope in Scope if record().allows(scope)] == [Scope.READ]
    assert not allows([], Scope.READ)
