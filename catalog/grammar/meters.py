"""``meters: {m: {event_type, aggregation, value?, …}}`` and the conditions of filters."""

from __future__ import annotations

from decimal import Decimal

from catalog.grammar.nodes import Codec, Fields, Node, Record, distinct, listed, mapped, may, need
from catalog.grammar.scalars import (
    BOOLEAN,
    EVENT_TYPE,
    NAMED,
    PATH,
    WINDOW,
    WORD,
    choice,
    decimal,
)
from catalog.meters import Aggregation, Condition, Meter
from catalog.money import NumberLimit

_UNWINDOWED = {Aggregation.COUNT, Aggregation.UNIQUE_COUNT}

_WORDS = distinct(listed(WORD, least=1))
_PERCENTILE: Codec[Decimal] = decimal(
    NumberLimit(name="percentile", below=1_000, decimals=6), above=0, most=100
)


def _read_types(node: Node) -> tuple[str, ...]:
    if isinstance(node.value, str):
        return (EVENT_TYPE.read(node),)
    return distinct(listed(EVENT_TYPE, least=1, most=100)).read(node)


def _write_types(types: tuple[str, ...]) -> object:
    return types[0] if len(types) == 1 else list(types)


_EVENT_TYPES = Codec(_read_types, _write_types)


def _read_condition(node: Node, *, exists: bool) -> Condition:
    fields = Fields(node)
    forms = ("in", "not_in", "exists") if exists else ("in", "not_in")
    form = fields.one_of(*forms)
    optional = fields.get("optional", BOOLEAN) or False
    words = None if form == "exists" else fields.need(form, _WORDS)
    present = fields.need("exists", BOOLEAN) if form == "exists" else None
    fields.settle()
    if optional and form == "exists":
        fields.refuse("optional", "goes only with 'in' and 'not_in'")
    if present is False:
        fields.refuse("exists", "can only be true")
    fields.settle()
    return Condition(
        path="",
        included=words if form == "in" else None,
        excluded=words if form == "not_in" else None,
        exists=present,
        optional=optional,
    )


def _write_condition(condition: Condition) -> object:
    if condition.exists is not None:
        return {"exists": condition.exists}
    written: dict[str, object] = {"not_in": list(condition.excluded or ())}
    if condition.included is not None:
        written = {"in": list(condition.included)}
    if condition.optional:
        written["optional"] = True
    return written


def conditions(key: Codec[str], *, exists: bool) -> Codec[tuple[Condition, ...]]:
    """A filter: conditions by path or dimension, all of which must hold; sorted by it."""
    single = Codec(lambda node: _read_condition(node, exists=exists), _write_condition)
    pairs = mapped(key, single, most=100)

    def read(node: Node) -> tuple[Condition, ...]:
        return tuple(
            Condition(
                path=path,
                included=found.included,
                excluded=found.excluded,
                exists=found.exists,
                optional=found.optional,
            )
            for path, found in pairs.read(node)
        )

    return Codec(read, lambda held: pairs.write(tuple((c.path, c) for c in held)))


def _check(meter: Meter, fields: Fields) -> None:
    if meter.aggregation is Aggregation.COUNT:
        if meter.value is not None:
            fields.refuse("value", "count counts events and reads no value")
    elif meter.value is None:
        fields.missing(f"'value' is missing: {meter.aggregation} aggregates one")
    if (meter.percentile is not None) != (meter.aggregation is Aggregation.PERCENTILE):
        fields.refuse("percentile", "goes with the aggregation percentile, and it with this")
    if meter.window is not None and meter.aggregation in _UNWINDOWED:
        fields.refuse("window", f"has no meaning for {meter.aggregation}")


METERS = Record(
    Meter,
    need("event_type", _EVENT_TYPES, "event_types"),
    need("aggregation", choice(Aggregation)),
    may("value", PATH),
    may("percentile", _PERCENTILE),
    may("window", WINDOW),
    may("dimensions", mapped(NAMED, PATH, most=64)),
    may("filter", conditions(PATH, exists=True)),
    may("billable", BOOLEAN),
    check=_check,
)

DIMENSION_FILTER = conditions(NAMED, exists=False)
