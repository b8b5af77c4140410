"""Content-Encoding: what goes in comes out, and bombs do not go off."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest.batch import BodyTooLarge, IngestLimits, UnreadableBody, UnsupportedMediaType
from ingest.inflate import inflate

PACK = {"gzip": gzip.compress, "zstd": zstandard.compress}
ENCODINGS = list(PACK)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(parts=st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_members_are_one_body(encoding, parts):
    """Several members or frames, one after another, are one body."""
    packed = b"".join(PACK[encoding](part) for part in parts)
    assert inflate(packed, encoding.upper(), IngestLimits()) == b"".join(parts)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_what_ends_early_is_refused(encoding, content, data):
    """Half a body is not a shorter body."""
    packed = PACK[encoding](content)
    cut = data.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(UnreadableBody):
        inflate(packed[:cut], encoding, IngestLimits())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bombs(encoding):
    """A gigabyte of zeros costs a few megabytes of ours."""
    packed = PACK[encoding](bytes(256 * 1024**2)) * 4
    tracemalloc.start()
    with pytest.raises(BodyTooLarge):
        inflate(packed, encoding, IngestLimits(inflation_ratio_max=10_000_000, inflated_bytes_max=4 * 1024**2))  # fmt: skip # noqa: E501
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 1024**2


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_ratio_is_bounded(encoding):
    """More than 100 to 1 is no body of events."""
    packed = PACK[encoding](bytes(10 * 1024**2))
    with pytest.raises(BodyTooLarge):
        inflate(packed, encoding, IngestLimits())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_flood_of_tiny_members_is_refused(encoding):
    """Members cost time each, even empty ones."""
    with pytest.raises(UnreadableBody):
        inflate(PACK[encoding](b"") * 5_000, encoding, IngestLimits())


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "*"])
def test_other_encodings_are_refused(encoding):
    """An encoding nobody undoes is not guessed at."""
    with pytest.raises(UnsupportedMediaType):
        inflate(b"x", encoding, IngestLimits())


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_no_encoding(encoding):
    """Nothing to undo."""
    assert inflate(b"x", encoding, IngestLimits()) == b"x"
