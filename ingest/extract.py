"""Facts from records: what the catalog's meters read from each event. Pure, frame in, frame out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from catalog.events import EMPTY_DIMENSIONS, FACTS, RecordKind
from catalog.ids import NodeId, SpecId
from catalog.meters import Condition, FactSpec
from catalog.snapshot import Catalog
from catalog.specs import fact_specs
from ingest import tokens
from ingest.jsontext import dump

_CARRIED = ["seq", "subject", "time", "received_at"]


def specs_of(catalog: Catalog) -> dict[SpecId, FactSpec]:
    """Every fact spec that any meter or dynamic price in ``catalog`` needs, by id."""
    return fact_specs(catalog)


def extract_facts(
    records: pl.DataFrame,
    specs: Sequence[FactSpec],
    *,
    node: NodeId,
    missing: bool = False,
) -> pl.DataFrame:
    """Read every spec's facts from a stretch of one node's log.

    Args:
        records: RECORDS of ``node``; everything but events is passed over.
        specs: what to read. Specs with one id are read once.
        node: whose log it is.
        missing: keep a row, with nulls, where a spec reads a value and finds none. Such an event
            is in no line (``missing_value``), so it is no fact.

    Returns:
        FACTS: for each spec in the order given, its facts by ascending ``seq``.

    Guarantees: a fact depends on its own record alone, never on what else is in the frame.
    """
    found = facts_by_spec(records, specs, node=node, missing=missing)
    return pl.concat([FACTS.to_frame(), *found.values()])


def facts_by_spec(
    records: pl.DataFrame, specs: Sequence[FactSpec], *, node: NodeId, missing: bool = False
) -> dict[SpecId, pl.DataFrame]:
    """:func:`extract_facts`, a frame a spec, in the order given; none of a spec without facts.

    Columns that several specs read are made once; a spec without a filter costs no plan of Polars'.
    """
    by_id = {spec.id: spec for spec in specs}
    types = {kind for spec in by_id.values() for kind in spec.event_types}
    pieces: dict[SpecId, list[pl.DataFrame]] = {}
    for kind, rows in _by_type(_events(records), types):
        readers = [spec for spec in by_id.values() if kind in spec.event_types]
        carried = [rows[name].rechunk() for name in _CARRIED]
        read = pl.DataFrame([*carried, *_read(rows["data"], readers)])
        for spec in readers:
            facts = _facts(read, spec, node, missing=missing)
            if facts.height:
                pieces.setdefault(spec.id, []).append(facts)
    return {key: _in_log_order(pieces[key]) for key in by_id if key in pieces}


def _events(records: pl.DataFrame) -> pl.DataFrame:
    are_events = records["kind"].eq_missing(RecordKind.EVENT.value)
    return records if are_events.all() else records.filter(are_events)


def _by_type(events: pl.DataFrame, types: set[str]) -> Iterable[tuple[str, pl.DataFrame]]:
    """The events of each of the types. Most often all are of one: then nothing is copied."""
    if not events.height or not types:
        return []
    first = events["type"][0]
    if events["type"].eq_missing(first).all():
        return [(first, events)] if first in types else []
    read = events.filter(pl.col("type").is_in(sorted(types)))
    parts = read.partition_by("type", as_dict=True)
    return [(str(kind), rows) for (kind,), rows in parts.items()]


def _read(data: pl.Series, specs: Iterable[FactSpec]) -> list[pl.Series]:
    """Every column the specs need, each made once."""
    wanted: dict[str, tuple[str, tokens.Form]] = {}
    objects: dict[str, dict[str, str]] = {}
    for spec in specs:
        for condition in spec.filter:
            wanted[f"text {condition.path}"] = condition.path, tokens.text
        if spec.value is not None:
            form = tokens.canonical if spec.as_text else tokens.number
            wanted[_value_column(spec)] = spec.value, form
        if spec.dimensions:
            objects[_dimensions_column(spec)] = dict(spec.dimensions)
    paths = [path for path, _ in wanted.values()]
    paths += [path for members in objects.values() for path in members.values()]
    found = tokens.find_tokens(data, dict.fromkeys(paths))
    columns = {name: form(found[path]) for name, (path, form) in wanted.items()}
    for name, members in objects.items():
        columns[name] = tokens.objects({key: found[path] for key, path in members.items()})
    return [column.alias(name) for name, column in columns.items()]


def _value_column(spec: FactSpec) -> str:
    return f"{'canonical' if spec.as_text else 'number'} {spec.value}"


def _dimensions_column(spec: FactSpec) -> str:
    return f"dimensions {dump(dict(spec.dimensions))}"


def _facts(read: pl.DataFrame, spec: FactSpec, node: NodeId, *, missing: bool) -> pl.DataFrame:
    """One spec's FACTS of the rows."""
    passes = [_passes(condition) for condition in spec.filter]
    value = None if spec.value is None else _value_column(spec)
    if value is not None and not missing and read[value].null_count():
        passes.append(pl.col(value).is_not_null())
    rows = read.filter(*passes) if passes else read
    columns = {name: rows[name] for name in _CARRIED}
    if value is not None:
        columns["text" if spec.as_text else "value"] = rows[value]
    if spec.dimensions:
        columns["dimensions"] = rows[_dimensions_column(spec)]
    same = {"node": str(node), "spec": str(spec.id), "dimensions": EMPTY_DIMENSIONS}
    return pl.DataFrame(
        [
            columns[name].alias(name)
            if name in columns
            else pl.Series(name, [same.get(name)], dtype).new_from_index(0, rows.height)
            for name, dtype in FACTS.items()
        ]
    )


def _passes(condition: Condition) -> pl.Expr:
    """Whether a row passes; an absent value only where the condition says so."""
    text = pl.col(f"text {condition.path}")
    if condition.exists is False:
        return text.is_null()
    passes = text.is_not_null()
    if condition.included is not None:
        passes &= text.is_in(list(condition.included)).fill_null(value=False)
    if condition.excluded is not None:
        passes &= ~text.is_in(list(condition.excluded)).fill_null(value=True)
    return passes | text.is_null() if condition.optional else passes


def _in_log_order(pieces: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One spec's facts in log order: each event type was read on its own."""
    return pl.concat(pieces).sort("seq") if len(pieces) > 1 else pieces[0]
