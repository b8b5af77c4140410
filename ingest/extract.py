"""Facts from records: what the catalog's meters read from each event. Pure, frame in, frame out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from catalog.events import EMPTY_DIMENSIONS, FACTS, QUANTITY, RecordKind
from catalog.ids import NodeId, SpecId
from catalog.meters import Condition, FactSpec
from catalog.snapshot import Catalog
from ingest.jsontext import dump
from ingest.numbers import quantities
from ingest.tokens import canonical, quoted, texts, tokens_at

_NO_TEXT = pl.Series([None], dtype=pl.String)
_CARRIED = ["seq", "subject", "time", "received_at"]


def specs_of(catalog: Catalog) -> dict[SpecId, FactSpec]:
    """Every fact spec that any version of any meter in ``catalog`` needs, by id."""
    meters = (meter for chain in catalog.meters.values() for meter in chain.values)
    specs = (meter.fact_spec for meter in meters)
    return {spec.id: spec for spec in specs}


def extract_facts(
    records: pl.DataFrame, specs: Sequence[FactSpec], *, node: NodeId
) -> pl.DataFrame:
    """Read every spec's facts from a stretch of one node's log.

    Args:
        records: RECORDS of ``node``; everything but events is passed over.
        specs: what to read. Specs with one id are read once.

    Returns:
        FACTS: for each spec in the order given, its facts by ascending ``seq``. A spec whose value
        is absent or unreadable still has its row, with nulls (``missing_value``).

    Guarantees: a fact depends on its own record alone, never on what else is in the frame.
    """
    by_id = {spec.id: spec for spec in specs}
    types = sorted({kind for spec in by_id.values() for kind in spec.event_types})
    events = records.filter(
        pl.col("kind").eq(RecordKind.EVENT.value), pl.col("type").is_in(types)
    )
    pieces: dict[SpecId, list[pl.DataFrame]] = {spec_id: [] for spec_id in by_id}
    for (kind,), rows in events.partition_by("type", as_dict=True).items():
        readers = [(key, spec) for key, spec in by_id.items() if kind in spec.event_types]
        reading = _Reading(rows["data"], _paths(spec for _, spec in readers))
        for spec_id, spec in readers:
            pieces[spec_id].append(_facts(rows, reading, spec))
    whole = [_assembled(found, spec_id, node) for spec_id, found in pieces.items() if found]
    return pl.concat(whole) if whole else FACTS.to_frame()


class _Reading:
    """The tokens and texts of one event type's rows, each path read once for all specs."""

    def __init__(self, data: pl.Series, paths: Iterable[str]) -> None:
        self.height = len(data)
        self.tokens = tokens_at(data, paths)
        self._texts: dict[str, pl.Series] = {}

    def text(self, path: str) -> pl.Series:
        """What stands at ``path`` as filters and dimensions see it; null where absent."""
        if path not in self._texts:
            self._texts[path] = texts(self.tokens[path])
        return self._texts[path]


def _paths(specs: Iterable[FactSpec]) -> list[str]:
    found: dict[str, None] = {}
    for spec in specs:
        found.update(dict.fromkeys(path for _, path in spec.dimensions))
        found.update(dict.fromkeys(condition.path for condition in spec.filter))
        if spec.value is not None:
            found[spec.value] = None
    return list(found)


def _facts(rows: pl.DataFrame, reading: _Reading, spec: FactSpec) -> pl.DataFrame:
    facts = rows.select(_CARRIED).with_columns(
        _value(reading, spec).alias("value"),
        _text(reading, spec).alias("text"),
        _dimensions(reading, spec).alias("dimensions"),
    )
    for condition in spec.filter:
        facts = facts.with_columns(passes(reading.text(condition.path), condition).alias(condition.path)) if False else facts
    mask = _mask(reading, spec)
    return facts if mask is None else facts.filter(mask)
