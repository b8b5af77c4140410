"""What events say to specs: :mod:`ingest.extract` row by row.

For pages so short that a Polars plan costs more than its rows, and above all waits more: every plan
is handed to the pool and back, and whoever shares the core goes first each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from catalog.ids import SpecId
from catalog.meters import FactSpec
from ingest.fields import fields_of, keys_of, members_of, passes, spelled, token_at
from ingest.numbers import DECIMALS_MAX, read_quantity

_NANOS: int = 10**DECIMALS_MAX
_PLAIN_DIGITS_MAX = 15

_Reading = tuple[SpecId, FactSpec]


class SpecReader:
    """Reads facts without dimensions, of specs whose values are numbers."""

    def __init__(self, specs: Iterable[FactSpec]) -> None:
        """Take the specs; one whose value is text is none of an account's.

        Raises:
            ValueError: there is such a one.
        """
        self._by_type: dict[str, list[_Reading]] = {}
        for spec in specs:
            if spec.as_text:
                raise ValueError(f"{spec.id} reads text")
            for kind in spec.event_types:
                self._by_type.setdefault(kind, []).append((spec.id, spec))

    def read_all(
        self, kind: str, data: Sequence[str | None]
    ) -> list[tuple[SpecId, Sequence[int | None]]]:
        """Each spec of an event type, with a value an event: in nano-units, 0 of a spec without.

        Null where the event is no fact of the spec: a filter keeps it out, or it has not got the
        value. Where no spec has a filter, all are parsed at once and only for what is read.
        """
        readers = self._by_type.get(kind, [])
        values = self._parsed_at_once(readers, data)
        if values is None:
            rows = [self._read(readers, text) for text in data]
            values = [list(column) for column in zip(*rows, strict=True)]
        return [(key, of) for (key, _), of in zip(readers, values, strict=True)]

    def _parsed_at_once(
        self, readers: Sequence[_Reading], data: Sequence[str | None]
    ) -> list[Sequence[int | None]] | None:
        """A list of values a spec; null where the events must be read one by one."""
        paths = dict.fromkeys(spec.value for _, spec in readers if spec.value is not None)
        ways = [keys_of(path) for path in paths]
        if any(spec.filter for _, spec in readers) or any(len(way) > 1 for way in ways):
            return None
        joined = ",".join([text or "{}" for text in data])
        raws = members_of(joined, tuple(way[0] for way in ways), rows=len(data)) if ways else []
        if raws is None:
            return None
        by_path = {path: list(map(_nanos_of, of)) for path, of in zip(paths, raws, strict=True)}
        nothing = [0] * len(data)
        return [nothing if spec.value is None else by_path[spec.value] for _, spec in readers]

    def _read(self, readers: Sequence[_Reading], data: str | None) -> list[int | None]:
        """One event's value for each spec."""
        fields = fields_of(data or "{}")
        return [
            (0 if spec.value is None else _nanos(token_at(fields, spec.value)))
            if all(passes(condition, fields) for condition in spec.filter)
            else None
            for _, spec in readers
        ]


def _nanos_of(raw: msgspec.Raw) -> int | None:
    text = bytes(raw)
    if len(text) <= _PLAIN_DIGITS_MAX and text.isdigit() and not text.startswith(b"0"):
        return int(text) * _NANOS
    return None if text in {b"", b"null"} else _nanos(text.decode())


def _nanos(token: str | None) -> int | None:
    if token is None:
        return None
    text = spelled(token)
    if len(text) <= _PLAIN_DIGITS_MAX and text.isascii() and text.isdigit() and text[0] != "0":
        return int(text) * _NANOS
    value = read_quantity(text)
    return None if value is None else int(value.scaleb(DECIMALS_MAX))
