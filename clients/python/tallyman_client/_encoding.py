"""Events, amounts and bodies as bytes. Exact: a number leaves as it came, or not at all."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tallyman_client._options import Compression

try:
    import zstandard
except ImportError:  # the extra is not installed
    zstandard = None  # type: ignore[assignment]

FIELD_BYTES_MAX = 256
DEPTH_MAX = 32
DIGITS_MAX = 1_000
"""Of a decimal written out; beyond, ``Decimal("1E+999999")`` would be a megabyte."""

RATIO_MAX = 50
"""A service refuses bodies that inflate by more than 100; what packs too well goes unpacked."""

_PLAIN = frozenset({str, int, bool, type(None)})
"""What goes as it is: most values, so they are asked first."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GZIP_LEVEL = 1
_ZSTD_LEVEL = 1

Data = Mapping[str, Any]

write_json = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One usage event: who (``subject``) did what (``type``), with what numbers (``data``).

    ``id`` and ``source`` are its identity: sent twice it counts once. ``time`` is an aware
    datetime, or RFC 3339 text as it shall be sent.
    """

    type: str
    subject: str
    data: Data = field(default_factory=dict)
    id: str | None = None
    time: datetime | str | None = None
    source: str | None = None


def encode_event(event: Event, *, allow_floats: bool) -> bytes:
    """A complete event (id, source and time are there) as CloudEvents JSON.

    Raises:
        TypeError: a value of a kind that cannot be sent exactly (a float, above all).
        ValueError: a field is missing, too long or not text.
    """
    envelope = {
        "specversion": "1.0",
        "id": _field("id", event.id),
        "source": _field("source", event.source),
        "type": _field("type", event.type),
        "subject": _field("subject", event.subject),
        "time": event.time if isinstance(event.time, str) else time_text(event.time),
        "data": exact_object(event.data, allow_floats=allow_floats),
    }
    try:
        return write_json(envelope).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"an event's text has a lone surrogate: {error}") from None


def instant_text(now_ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 with microseconds."""
    return time_text(_EPOCH + timedelta(microseconds=now_ns // 1_000))


def time_text(value: object) -> str:
    """An aware datetime as RFC 3339 in UTC.

    Raises:
        TypeError: not a datetime.
        ValueError: it has no offset.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"time must be a datetime or text, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise ValueError("time needs an offset: datetime(…, tzinfo=UTC)")
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def exact_object(data: Data, *, allow_floats: bool = False) -> dict[str, Any]:
    """``data`` as JSON values: integers stay integers, Decimals become strings.

    Raises:
        TypeError: not an object; or it holds a float, or something JSON has no exact word for.
        ValueError: a number that is not finite, or a value nested too deeply.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"data must be a mapping, not {type(data).__name__}")
    return _object(data, "data", allow_floats=allow_floats)


def amount_text(amount: Decimal | int | str) -> str:
    """An amount as the API takes it.

    Raises:
        TypeError: a float or a bool.
        ValueError: not a number.
    """
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int | str):
        raise TypeError(
            f"an amount must be an int, a Decimal or a string, not {type(amount).__name__}"
        )
    if isinstance(amount, Decimal):
        return _decimal(amount, "amount")
    return str(amount)


def batch_body(events: Sequence[bytes]) -> bytes:
    """Encoded events as one CloudEvents batch."""
    return b"[" + b",".join(events) + b"]"


def pack(body: bytes, *, compression: Compression, bytes_min: int) -> tuple[bytes, str | None]:
    """The body as it is sent, and its Content-Encoding.

    Small ones stay as they are, and so does what packs too well to be believed (RATIO_MAX).
    """
    if compression == "none" or len(body) < bytes_min:
        return body, None
    if compression == "gzip" or (compression == "auto" and zstandard is None):
        packed, name = gzip.compress(body, _GZIP_LEVEL, mtime=0), "gzip"
    else:
        packed, name = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body), "zstd"
    if len(body) > RATIO_MAX * len(packed):
        return body, None
    return packed, name


def require_compression(compression: Compression) -> None:
    """Raise ValueError where ``compression`` needs a package that is not installed."""
    if compression == "zstd" and zstandard is None:
        raise ValueError('zstd needs the extra: pip install "tallyman-client[zstd]"')


def _field(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {type(value).__name__}")
    size = len(value.encode(errors="surrogatepass"))
    if not 1 <= size <= FIELD_BYTES_MAX:
        raise ValueError(f"{name} must be 1 to {FIELD_BYTES_MAX} bytes, not {size}")
    return value


def _object(
    value: Mapping[Any, Any], at: str, *, allow_floats: bool, depth: int = 1
) -> dict[str, Any]:
    if depth > DEPTH_MAX:
        raise ValueError(f"{at[:60]}… is nested over {DEPTH_MAX} levels deep")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"a key of {at} must be text, not {type(key).__name__}")
    return {
        key: each
        if type(each) in _PLAIN
        else _exact(each, f"{at}.{key}", allow_floats=allow_floats, depth=depth)
        for key, each in value.items()
    }


def _exact(value: object, at: str, *, allow_floats: bool, depth: int) -> Any:
    match value:
        case None | bool() | str() | int():
            return value
        case Decimal():
            return _decimal(value, at)
        case float():
            return _float(value, at, allow_floats=allow_floats)
        case datetime():
            return time_text(value)
        case Mapping():
            return _object(value, at, allow_floats=allow_floats, depth=depth + 1)
        case list() | tuple():
            items = dict(zip(map(str, range(len(value))), value, strict=True))
            inner = _object(items, at, allow_floats=allow_floats, depth=depth + 1)
            return list(inner.values())
        case _:
            raise TypeError(f"{at} is a {type(value).__name__}, which has no exact form in JSON")


def _float(value: float, at: str, *, allow_floats: bool) -> float:
    if not allow_floats:
        raise TypeError(
            f"{at} is the float {value!r}: use Decimal or int, so that what is billed is what was "
            "meant (or Options(allow_floats=True))"
        )
    if not math.isfinite(value):
        raise ValueError(f"{at} is not finite")
    return value


def _decimal(value: Decimal, at: str) -> str:
    if not value.is_finite():
        raise ValueError(f"{at} is not finite")
    if abs(value.adjusted()) > DIGITS_MAX or len(value.as_tuple().digits) > DIGITS_MAX:
        raise ValueError(f"{at} has over {DIGITS_MAX} digits")
    return format(value, "f")
