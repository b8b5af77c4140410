"""What one event says to a spec: :mod:`ingest.extract` for a single row.

For pages so short that a Polars plan costs more than its rows, and above all waits more: every plan
is handed to the pool and back, and whoever shares the core goes first each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from catalog.ids import SpecId
from catalog.meters import Condition, FactSpec
from ingest.jsontext import text_of
from ingest.numbers import DECIMALS_MAX, read_quantity

NANOS = 1_000_000_000
_PLAIN_DIGITS_MAX = 15
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_any_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
Fields = dict[str, msgspec.Raw]


class SpecReader:
    """Reads facts without dimensions, of specs whose values are numbers."""

    def __init__(self, specs: Iterable[FactSpec]) -> None:
        """Take the specs; one whose value is text is none of an account's.

        Raises:
            ValueError: there is such a one.
        """
        self._by_type: dict[str, list[tuple[SpecId, FactSpec]]] = {}
        for spec in specs:
            if spec.as_text:
                raise ValueError(f"{spec.id} reads text")
            for kind in spec.event_types:
                self._by_type.setdefault(kind, []).append((spec.id, spec))

    def read(self, kind: str, data: str | None) -> list[tuple[SpecId, int | None]]:
        """Each spec that the event is a fact of, with its value in nano-units.

        The value is null where the spec has none. An event without the value that a spec reads is
        none of its facts.
        """
        readers = self._by_type.get(kind)
        if readers is None:
            return []
        fields = _object(data)
        found: list[tuple[SpecId, int | None]] = []
        for key, spec in readers:
            if all(_passes(condition, fields) for condition in spec.filter):
                nanos = _nanos(_token(fields, spec.value)) if spec.value else None
                if nanos is not None or not spec.value:
                    found.append((key, nanos))
        return found


def _object(data: str | None) -> Fields:
    try:
        return _any_object.decode(data or "{}")
    except _UNREADABLE:
        return {}


def _token(fields: Fields, path: str) -> str | None:
    """The JSON text at a path; null where it is absent, or null."""
    *outer, last = _keys(path)
    for key in outer:
        inner = fields.get(key)
        if inner is None or not bytes(inner).startswith(b"{"):
            return None
        fields = _object(bytes(inner).decode())
    found = fields.get(last)
    text = None if found is None else bytes(found).decode()
    return None if text in {"", "null"} else text


@lru_cache(maxsize=1024)
def _keys(path: str) -> tuple[str, ...]:
    return tuple(path.removeprefix("data.").split("."))


def _text(token: str) -> str:
    if token[0] == '"' and "\\" not in token:
        return token[1:-1]
    return text_of(token)


def _nanos(token: str | None) -> int | None:
    if token is None:
        return None
    text = _text(token)
    if len(text) <= _PLAIN_DIGITS_MAX and text.isascii() and text.isdigit() and text[0] != "0":
        return int(text) * NANOS
    value = read_quantity(text)
    return None if value is None else int(value.scaleb(DECIMALS_MAX))


def _passes(condition: Condition, fields: Fields) -> bool:
    """Whether an event passes; an absent value only where the condition says so."""
    token = _token(fields, condition.path)
    if condition.exists is False:
        return token is None
    if token is None:
        return condition.optional
    test = _tests(condition)
    return test(_text(token))


@lru_cache(maxsize=1024)
def _tests(condition: Condition) -> Callable[[str], bool]:
    included = None if condition.included is None else frozenset(condition.included)
    excluded = frozenset(condition.excluded or ())
    return lambda text: (included is None or text in included) and text not in excluded
