"""A short page read row by row is what the same page is in columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.readers.ledger_rows import RowByRow
from api.readers.ledger_uses import changes_of
from catalog.contracts import Customer, SubjectClaim
from catalog.events import RECORDS, RecordKind
from catalog.ids import CustomerId, FeatureId, MeterId, NodeId, Subject
from catalog.meters import Aggregation, Condition, FactSpec, Meter
from catalog.products import Feature, FeatureKind
from catalog.snapshot import Catalog
from entitlements.attribution import Attribution
from entitlements.ports import SOURCE
from entitlements.schedules import Schedules
from ingest.reading import SpecReader
from tests.ledger_world import catalog, chain, contract, right
from tests.unit.ingest.json_texts import objects, spaces, values

NODE = NodeId("n1")
T0 = datetime(2026, 10, 1, tzinfo=UTC)
PATHS = ("data.n", "data.model.n", "data.a", "data.tokens", "data.é")
SUBJECTS = ("acme", "bolt", "shared", "nobody's")


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    """One test of a filter."""
    path = draw(st.sampled_from(PATHS))
    texts = st.lists(st.sampled_from(["1", "true", "x", ""]), min_size=1, unique=True).map(tuple)
    kind = draw(st.sampled_from(("included", "excluded", "exists")))
    if kind == "exists":
        return Condition(path=path, exists=draw(st.booleans()))
    return Condition(path=path, optional=draw(st.booleans()), **{kind: draw(texts)})


@st.composite
def meters(draw: st.DrawFn, name: str) -> Meter:
    """A sum or count meter, with dimensions, of one or two event types."""
    counts = draw(st.booleans())
    types = draw(st.lists(st.sampled_from(["llm", "call"]), min_size=1, unique=True))
    return Meter(
        id=MeterId(name),
        event_types=tuple(types),
        aggregation=Aggregation.COUNT if counts else Aggregation.SUM,
        value=None if counts else draw(st.sampled_from(PATHS)),
        dimensions=draw(st.sampled_from([(), (("model", "data.model"),)])),
        filter=tuple(draw(st.lists(conditions(), max_size=2, unique_by=lambda c: c.path))),
    )


instants = st.integers(0, 90 * 86_400).map(lambda s: T0 + timedelta(seconds=s))


@st.composite
def claims(draw: st.DrawFn) -> SubjectClaim:
    """A claim, for some time or for ever."""
    since, until = sorted(draw(st.tuples(instants, instants)))
    return SubjectClaim(
        subject=Subject(draw(st.sampled_from(SUBJECTS[:3]))),
        since=draw(st.sampled_from([None, since])),
        until=draw(st.sampled_from([None, until])),
    )


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Two customers who claim subjects at times, a meter that changes, contracts that end."""
    first, second, third = (draw(meters(name)) for name in ("m", "m", "other"))
    features = [
        Feature(id=FeatureId(name), kind=FeatureKind.METERED, meter=MeterId(meter))
        for name, meter in (("tokens", "m"), ("calls", "other"))
    ]
    start, end = date(2026, 10, 5), draw(st.sampled_from([None, date(2026, 11, 20)]))
    made = catalog(
        contract("k", right(), right(FeatureId("calls")), start=start, end=end),
        contract("l", right(), start=start, customer="bolt"),
    )
    held = {
        name: Customer(id=name, name=name, subjects=tuple(draw(st.lists(claims(), max_size=3))))
        for name in (CustomerId("acme"), CustomerId("bolt"))
    }
    return replace(
        made,
        meters={
            MeterId("m"): chain(first, second, since=(None, draw(instants))),
            MeterId("other"): chain(third),
        },
        features={feature.id: chain(feature) for feature in features},
        customers={name: chain(customer) for name, customer in held.items()},
    )


@st.composite
def read_values(draw: st.DrawFn) -> str:
    """Data with values at the paths that are read, among others."""
    paths = draw(st.lists(st.sampled_from(["n", "a", "tokens", "é"]), unique=True, max_size=3))
    pairs = [f'"{path}":{draw(spaces)}{draw(values(depth=1))}' for path in paths]
    if draw(st.booleans()):
        pairs.append(f'"model":{{"n":{draw(values(depth=1))}}}')
    return "{" + ",".join(pairs) + "}"


MARKED = '{"n":1,"tallyman":{"customer":"acme","key":"k","request":"d","answer":[null,"5"]}}'


@st.composite
def rows(draw: st.DrawFn) -> dict[str, object]:
    """A record: an event, some of them of ours and some with a key, or a heartbeat."""
    if draw(st.integers(0, 9)) == 0:
        return {"kind": RecordKind.HEARTBEAT.value}
    return {
        "kind": RecordKind.EVENT.value,
        "source": draw(st.sampled_from(["app", "app", SOURCE])),
        "id": "e",
        "type": draw(st.sampled_from(["llm", "llm", "call", "x"])),
        "subject": draw(st.sampled_from(SUBJECTS)),
        "time": draw(instants),
        "data": draw(st.one_of(objects(), read_values(), st.just(MARKED))),
    }


def records_of(given_rows: list[dict[str, object]]) -> pl.DataFrame:
    """RECORDS of one node."""
    full = [
        {"seq": seq, "received_at": T0 + timedelta(seconds=seq), "time_given": True} | row
        for seq, row in enumerate(given_rows, start=1)
    ]
    return pl.DataFrame([dict.fromkeys(RECORDS) | row for row in full], schema=RECORDS)


@settings(max_examples=60)
@given(state=catalogs(), page=st.lists(rows(), min_size=1, max_size=12))
def test_row_by_row_is_what_columns_say(state: Catalog, page: list[dict[str, object]]) -> None:
    """Every delta and every key, to the last nano-unit, whatever was sent and claimed."""
    attribution, records = Attribution(Schedules(state)), records_of(page)
    by_row = RowByRow(attribution).changes(records)
    columns = changes_of(records, {NODE: None}, attribution=attribution, node=NODE)

    assert by_row is not None
    assert by_row.filed == columns.filed
    assert {c: sorted(told) for c, told in by_row.deltas.items()} == {
        c: sorted(told) for c, told in columns.deltas.items()
    }


def test_something_is_counted() -> None:
    """The test above would pass with a catalog that counts nothing."""
    attribution = Attribution(Schedules(catalog(contract("k", right()))))
    event = {"kind": RecordKind.EVENT.value, "source": "app", "id": "e", "type": "llm"}
    event |= {"subject": "acme", "time": T0 + timedelta(days=40), "data": '{"n":"1.000000001"}'}
    found = RowByRow(attribution).changes(records_of([event, event]))

    assert found is not None
    ((feature, _, nanos),) = found.deltas[CustomerId("acme")]
    assert (feature, nanos) == ("tokens", 2_000_000_002)


@pytest.mark.parametrize("kind", [RecordKind.VOID, RecordKind.COLLAPSED])
def test_what_takes_out_is_left_to_columns(kind: RecordKind) -> None:
    """What it takes out lies elsewhere in the logs."""
    attribution = Attribution(Schedules(catalog(contract("k", right()))))
    assert RowByRow(attribution).changes(records_of([{"kind": kind.value, "target": 1}])) is None


def test_text_is_nobodys_amount() -> None:
    """Specs of unique counts are not for accounts."""
    spec = FactSpec(event_types=("x",), value="data.n", as_text=True, dimensions=(), filter=())
    with pytest.raises(ValueError, match="text"):
        SpecReader([spec])
