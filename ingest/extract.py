"""Facts from records: what the catalog's meters read from each event. Pure, frame in, frame out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from catalog.events import EMPTY_DIMENSIONS, FACTS, QUANTITY, RecordKind
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

    All specs of an event type are one plan: a small page costs a few plans, however many specs.
    """
    by_id = {spec.id: spec for spec in specs}
    types = sorted({kind for spec in by_id.values() for kind in spec.event_types})
    events = records.filter(pl.col("kind").eq(RecordKind.EVENT.value), pl.col("type").is_in(types))
    plans: list[pl.LazyFrame] = []
    owners: list[SpecId] = []
    for kind, rows in _by_type(events):
        readers = [spec for spec in by_id.values() if kind in spec.event_types]
        read = rows.select(_CARRIED).hstack(_read(rows["data"], readers)).lazy()
        plans += [_facts(read, spec, node, missing=missing) for spec in readers]
        owners += [spec.id for spec in readers]
    pieces: dict[SpecId, list[pl.DataFrame]] = {}
    for owner, facts in zip(owners, pl.collect_all(plans, engine="in-memory"), strict=True):
        if facts.height:
            pieces.setdefault(owner, []).append(facts)
    return {key: _in_log_order(pieces[key]) for key in by_id if key in pieces}


def _by_type(events: pl.DataFrame) -> Iterable[tuple[str, pl.DataFrame]]:
    types = events["type"].unique().to_list()
    if len(types) == 1:
        return [(types[0], events)]
    parts = events.partition_by("type", as_dict=True)
    return [(str(kind), rows) for (kind,), rows in parts.items()]


def _read(data: pl.Series, specs: Iterable[FactSpec]) -> pl.DataFrame:
    """Every column the specs need, each path parsed once: ``<what> <path>``."""
    wanted: dict[str, tuple[str, tokens.Form]] = {}
    for spec in specs:
        for condition in spec.filter:
            wanted[f"text {condition.path}"] = condition.path, tokens.text
        for _, path in spec.dimensions:
            wanted[f"quoted {path}"] = path, tokens.quoted
        if spec.value is not None and spec.as_text:
            wanted[f"canonical {spec.value}"] = spec.value, tokens.canonical
        elif spec.value is not None:
            wanted[f"number {spec.value}"] = spec.value, tokens.number
    if not wanted:
        return pl.DataFrame(height=len(data))
    found = tokens.find_tokens(data, dict.fromkeys(path for path, _ in wanted.values()))
    return pl.DataFrame({name: form(found[path]) for name, (path, form) in wanted.items()})


def _facts(rows: pl.LazyFrame, spec: FactSpec, node: NodeId, *, missing: bool) -> pl.LazyFrame:
    """One spec's FACTS of the rows."""
    value = None if spec.value is None or spec.as_text else f"number {spec.value}"
    text = f"canonical {spec.value}" if spec.value is not None and spec.as_text else None
    columns = {
        "node": pl.lit(str(node)),
        "spec": pl.lit(str(spec.id)),
        "value": pl.lit(None, QUANTITY) if value is None else pl.col(value),
        "text": pl.lit(None, pl.String) if text is None else pl.col(text),
        "dimensions": _dimensions(spec),
    }
    passes = [_passes(condition) for condition in spec.filter]
    read = value or text
    if read is not None and not missing:
        passes.append(pl.col(read).is_not_null())
    return rows.filter(*passes).select(
        columns.get(name, pl.col(name)).alias(name) for name in FACTS
    )


def _dimensions(spec: FactSpec) -> pl.Expr:
    """The dimensions as one JSON object a row, in the one spelling FACTS promises."""
    if not spec.dimensions:
        return pl.lit(EMPTY_DIMENSIONS)
    pairs = [
        pl.lit(dump(name) + ":") + pl.col(f"quoted {path}")  # null where absent
        for name, path in sorted(spec.dimensions)
    ]
    return pl.lit("{") + pl.concat_str(pairs, separator=",", ignore_nulls=True) + pl.lit("}")


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
