"""Facts from records: what the catalog's meters read from each event. Pure, frame in, frame out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from catalog.events import EMPTY_DIMENSIONS, FACTS, QUANTITY, RecordKind
from catalog.ids import NodeId, SpecId
from catalog.meters import Condition, FactSpec
from catalog.snapshot import Catalog
from catalog.specs import fact_specs
from ingest.jsontext import dump
from ingest.tokens import CANONICAL, NUMBER, QUOTED, TEXT, Form, spelled, tokens_at

_CARRIED = ["seq", "subject", "time", "received_at"]


def specs_of(catalog: Catalog) -> dict[SpecId, FactSpec]:
    """Every fact spec that any meter or dynamic price in ``catalog`` needs, by id."""
    return fact_specs(catalog)


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
    events = records.filter(pl.col("kind").eq(RecordKind.EVENT.value), pl.col("type").is_in(types))
    pieces: dict[SpecId, list[pl.DataFrame]] = {spec_id: [] for spec_id in by_id}
    for (kind,), rows in events.partition_by("type", as_dict=True).items():
        readers = [(key, spec) for key, spec in by_id.items() if kind in spec.event_types]
        read = rows.select(_CARRIED).hstack(_read(rows["data"], [spec for _, spec in readers]))
        for spec_id, spec in readers:
            pieces[spec_id].append(_facts(read, spec))
    whole = [_assembled(found, spec_id, node) for spec_id, found in pieces.items() if found]
    return pl.concat(whole) if whole else FACTS.to_frame()


def _read(data: pl.Series, specs: Iterable[FactSpec]) -> pl.DataFrame:
    """Every column the specs need, each path parsed once: ``<what> <path>``."""
    forms: dict[str, tuple[str, Form]] = {}
    inputs: dict[str, tuple[str, Form]] = {}
    for spec in specs:
        for condition in spec.filter:
            inputs[f"text {condition.path}"] = condition.path, TEXT
        for _, path in spec.dimensions:
            inputs[f"text {path}"] = path, TEXT
            forms[f"quoted {path}"] = f"text {path}", QUOTED
        if spec.value is not None and spec.as_text:
            inputs[f"canonical {spec.value}"] = spec.value, CANONICAL
        elif spec.value is not None:
            inputs[f"text {spec.value}"] = spec.value, TEXT
            forms[f"number {spec.value}"] = f"text {spec.value}", NUMBER
    if not inputs:
        return pl.DataFrame(height=len(data))
    tokens = tokens_at(data, dict.fromkeys(path for path, _ in inputs.values()))
    texts = spelled(tokens, inputs)
    return texts.hstack(spelled(texts, forms)) if forms else texts


def _facts(rows: pl.DataFrame, spec: FactSpec) -> pl.DataFrame:
    """One spec's facts of the rows, before node and spec are named."""
    value = None if spec.value is None or spec.as_text else f"number {spec.value}"
    text = f"canonical {spec.value}" if spec.value is not None and spec.as_text else None
    return (
        rows.lazy()
        .filter(*(_passes(condition) for condition in spec.filter))
        .select(
            *_CARRIED,
            (pl.lit(None, QUANTITY) if value is None else pl.col(value)).alias("value"),
            (pl.lit(None, pl.String) if text is None else pl.col(text)).alias("text"),
            _dimensions(spec).alias("dimensions"),
        )
        .collect()
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


def _assembled(pieces: Sequence[pl.DataFrame], spec_id: SpecId, node: NodeId) -> pl.DataFrame:
    """One spec's facts in log order: each event type was read on its own."""
    facts = pl.concat(pieces).sort("seq") if len(pieces) > 1 else pieces[0]
    labels = pl.lit(str(node)).alias("node"), pl.lit(str(spec_id)).alias("spec")
    return facts.with_columns(*labels).select(FACTS.names())
