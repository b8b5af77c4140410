"""What one event says to a spec: :mod:`ingest.extract` for a single row.

For pages so short that a Polars plan costs more than its rows, and above all waits more: every plan
is handed to the pool and back, and whoever shares the core goes first each time.
"""

from __future__ import annotations

from collections.abc import Iterable

from catalog.ids import SpecId
from catalog.meters import FactSpec
from ingest.fields import fields_of, passes, spelled, token_at
from ingest.numbers import DECIMALS_MAX, read_quantity

_NANOS: int = 10**DECIMALS_MAX
_PLAIN_DIGITS_MAX = 15


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
        fields = fields_of(data or "{}")
        found: list[tuple[SpecId, int | None]] = []
        for key, spec in readers:
            if all(passes(condition, fields) for condition in spec.filter):
                nanos = _nanos(token_at(fields, spec.value)) if spec.value else None
                if nanos is not None or not spec.value:
                    found.append((key, nanos))
        return found


def _nanos(token: str | None) -> int | None:
    if token is None:
        return None
    text = spelled(token)
    if len(text) <= _PLAIN_DIGITS_MAX and text.isascii() and text.isdigit() and text[0] != "0":
        return int(text) * _NANOS
    value = read_quantity(text)
    return None if value is None else int(value.scaleb(DECIMALS_MAX))
