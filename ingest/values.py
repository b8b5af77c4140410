"""Which values of an event a meter reads, and whether it can."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.events import RejectCode
from catalog.meters import FactSpec
from catalog.snapshot import Catalog
from catalog.specs import fact_specs
from ingest.batch import Columns
from ingest.fields import fields_of, keys_of, passes, token_at
from ingest.jsontext import text_of
from ingest.numbers import DECIMALS_MAX, INTEGER_DIGITS_MAX, judge_number
from ingest.tokens import tokens_at

Reason = tuple[RejectCode, str]

_WHOLE = rf"(?:0|[1-9][0-9]{{0,{INTEGER_DIGITS_MAX - 1}}})"
_SHORT = r"[0-9]{1,6}\.[0-9]{1,9}"  # at most 15 digits: no double can have bent them
_SURE = rf'^(?:-?(?:{_WHOLE}|{_SHORT})|"-?{_WHOLE}(?:\.[0-9]{{1,{DECIMALS_MAX}}})?")$'
"""Tokens that are quantities at first sight."""

_DETAILS = {
    RejectCode.INVALID_VALUE: "is not a number",
    RejectCode.INEXACT_NUMBER: "has more digits than a JSON number keeps: send a string",
    RejectCode.TOO_PRECISE: f"has more than {DECIMALS_MAX} decimals",
    RejectCode.OUT_OF_RANGE: f"is 10^{INTEGER_DIGITS_MAX} or more",
}

_SHORT_FLOAT = re.compile(rf"-?[0-9]+\.[0-9]{{1,{DECIMALS_MAX}}}")
_LONG_DIGITS = re.compile(r"[0-9.]{16}")
_TOO_LARGE = 10**INTEGER_DIGITS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRules:
    """Which numbers must be readable: for each event type, the specs that read one."""

    specs: Mapping[str, tuple[FactSpec, ...]] = field(default_factory=dict)

    @classmethod
    def from_catalog(cls, catalog: Catalog) -> IngestRules:
        """The rules of every version of every meter, and of what dynamic prices read.

        A version holds for a stretch of event time, past or to come, so all of them count.
        """
        found: dict[str, dict[str, FactSpec]] = {}
        for spec in fact_specs(catalog).values():
            if spec.value is None or spec.as_text:
                continue
            for kind in spec.event_types:
                found.setdefault(kind, {})[spec.id] = spec
        return cls(specs={kind: tuple(specs.values()) for kind, specs in found.items()})


def judge_values(kind: str, data: str | bytes, rules: IngestRules) -> Reason | None:
    """Why a meter cannot read an event's value, None if every meter that reads it can.

    A missing value can be read (as missing), and one that a meter's filter keeps it from is not.
    """
    specs = rules.specs.get(kind, ())
    fields = fields_of(data) if specs else {}
    for spec in specs:
        assert spec.value is not None
        token = token_at(fields, spec.value)
        if token is None or not all(passes(condition, fields) for condition in spec.filter):
            continue
        quoted = token.startswith('"')
        judged = judge_number(text_of(token) if quoted else token, quoted=quoted)
        if not isinstance(judged, Decimal):
            return judged, f"{spec.value} {_DETAILS[judged]}"
    return None


def unsure_values(events: Columns, rules: IngestRules) -> list[int]:
    """Which rows' values need :func:`judge_values`; the others are surely readable."""
    unsure: list[int] = []
    for kind in set(events.type).intersection(rules.specs):
        paths = dict.fromkeys(spec.value for spec in rules.specs[kind] if spec.value is not None)
        rows = _rows_of(kind, events.type)
        if not all(_surely_numbers(events, rows, path) for path in paths):
            tokens = tokens_at(pl.Series([events.data[row] for row in rows]), paths)
            sure = pl.all_horizontal(pl.all().str.contains(_SURE) | pl.all().is_null())
            odd = (~tokens.select(sure).to_series()).arg_true().to_list()
            unsure.extend(rows[place] for place in odd)
    return unsure


def measured_keys(rules: IngestRules) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The keys of data under which a meter of any type reads: their bytes, and where each ends."""
    specs = (spec for several in rules.specs.values() for spec in several)
    paths = dict.fromkeys(spec.value for spec in specs if spec.value is not None)
    keys = [keys_of(path)[0].encode() for path in paths]
    words = np.frombuffer(b"".join(keys) + b"\0", np.uint8)
    return words, np.cumsum([len(key) for key in keys], dtype=np.int64)


def _rows_of(kind: str, kinds: list[str]) -> Sequence[int]:
    if kinds.count(kind) == len(kinds):
        return range(len(kinds))
    return [row for row, each in enumerate(kinds) if each == kind]


def _surely_numbers(events: Columns, rows: Sequence[int], path: str) -> bool:
    """Whether parsed data shows that all values are readable numbers, or absent.

    A float alone says too little: what it was before is only in the text. But where no text has a
    run of 16 digits, every number has at most 15, and a double gives 15 back as they were.
    """
    keys = keys_of(path)
    if events.parsed is None or len(keys) > 1:
        return False
    key = keys[0]
    values = [events.parsed[row].get(key, 0) for row in rows]
    kinds = set(map(type, values))
    if not kinds <= {int, float, type(None)}:
        return False
    floats = [value for value in values if type(value) is float] if float in kinds else []
    if floats and _LONG_DIGITS.search("\n".join(events.data)):
        return False
    present = [value for value in values if value is not None] or [0]
    in_range = bool(min(present) > -_TOO_LARGE and max(present) < _TOO_LARGE)
    return in_range and all(map(_SHORT_FLOAT.fullmatch, map(repr, floats)))
