"""The fold of statements into chains, against an oracle that answers one instant at a time."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.clock import Micros
from catalog.history import (
    Kind,
    StatedVersion,
    Statement,
    build_catalog,
    extend_catalog,
)
from catalog.ids import ProductId
from catalog.snapshot import Catalog, resolve

ZONE = ZoneInfo("Europe/Berlin")
DAY_0 = date(2026, 1, 1)
DAYS = 12
PRODUCT = ProductId("p")


def day(number: int) -> date:
    """The ``number``-th day of the examples."""
    return DAY_0 + timedelta(days=number)


def noon(number: int) -> Micros:
    """An instant inside that day."""
    return Micros(resolve(day(number), ZONE) + 12 * 3_600 * 1_000_000)


def version(name: str, since: int | None, until: int | None) -> StatedVersion:
    """A product called ``name`` over some days."""
    return StatedVersion(
        effective_from=None if since is None else day(since),
        effective_until=None if until is None else day(until),
        body={"name": name},
    )


@st.composite
def statement_lists(draw: st.DrawFn) -> list[Statement]:
    """Up to 6 statements about one product, one recorded each noon."""
    found = []
    for index in range(draw(st.integers(0, 6))):
        days = sorted(draw(st.sets(st.integers(0, DAYS), min_size=0, max_size=4)))
        retired = draw(st.sampled_from([False] * 5 + [True]))
        open_start = not days or draw(st.booleans())
        starts: list[int | None] = [*([None] if open_start else []), *days]
        chain = [
            version(f"{index}-{at}", since, draw(st.none() | st.integers((since or 0) + 1, DAYS)))
            for at, since in enumerate(starts)
            if since != DAYS
        ]
        found.append(
            Statement(
                revision=index + 1,
                kind=Kind.PRODUCTS,
                id="p",
                recorded_at=noon(draw(st.integers(0, DAYS)) if retired else index),
                retired=retired,
                whole_chain=open_start or draw(st.booleans()),
                versions=() if retired else tuple(chain),
            )
        )
    return found


def oracle(statements: list[Statement], instant: Micros) -> str | None:
    """The name that holds at ``instant``: each statement in turn overrules the ones before."""
    name: str | None = None
    for statement in statements:
        if statement.retired:
            name = None if instant >= statement.recorded_at else name
            continue
        if statement.whole_chain:
            name = None
        for stated in statement.versions:
            since, until = stated.effective_from, stated.effective_until
            begun = since is None or resolve(since, ZONE) <= instant
            if begun and (until is None or instant < resolve(until, ZONE)):
                name = str(stated.body["name"])
    return name


def observed(catalog: Catalog, instant: Micros) -> str | None:
    """The name that the catalog's chain gives at ``instant``."""
    chain = catalog.products.get(PRODUCT)
    value = chain.at(instant, ZONE) if chain else None
    return value.name if value else None


@given(statements=statement_lists())
@settings(max_examples=300, deadline=None)
def test_every_instant_sees_what_was_stated_last_about_it(statements: list[Statement]):
    """At midnights and between them, the chain answers what the oracle answers."""
    catalog = build_catalog(statements, timezone=ZONE)
    for number in range(-1, DAYS + 2):
        for instant in (resolve(day(number), ZONE), noon(number)):
            assert observed(catalog, instant) == oracle(statements, instant)


@given(statements=statement_lists())
@settings(max_examples=100, deadline=None)
def test_versions_are_in_order_and_do_not_overlap(statements: list[Statement]):
    """A chain is sorted by effective time, each version ends before the next begins."""
    chain = build_catalog(statements, timezone=ZONE).products.get(PRODUCT)
    versions = chain.versions if chain else ()
    for before, after in pairwise(versions):
        assert before.effective_until is not None
        assert after.effective_from is not None
        assert resolve(before.effective_until, ZONE) <= resolve(after.effective_from, ZONE)


@given(statements=statement_lists(), cut=st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_extending_equals_building_at_once(statements: list[Statement], cut: int):
    """A catalog extended by the later statements is the catalog of all of them."""
    early = build_catalog(statements[:cut], timezone=ZONE)
    assert extend_catalog(early, statements[cut:]) == build_catalog(statements, timezone=ZONE)


def stated(*versions: StatedVersion, whole: bool, revision: int) -> Statement:
    """A statement recorded at the noon of day ``revision``."""
    return Statement(
        revision=revision,
        kind=Kind.PRODUCTS,
        id="p",
        recorded_at=noon(revision),
        retired=False,
        whole_chain=whole,
        versions=versions,
    )


@pytest.mark.parametrize(
    ("second", "names"),
    [
        (stated(version("new", 5, None), whole=False, revision=2), {3: "old", 5: "new", 9: "new"}),
        (stated(version("new", 5, 7), whole=False, revision=2), {4: "old", 6: "new", 7: "old"}),
        (stated(version("new", None, None), whole=True, revision=2), {0: "new", 9: "new"}),
        (stated(version("new", None, 4), whole=True, revision=2), {3: "new", 4: None}),
        (
            stated(version("a", None, None), version("b", 5, None), whole=True, revision=2),
            {4: "a", 5: "b"},
        ),
    ],
    ids=["from", "from-until", "correction", "correction-until", "chain"],
)
def test_a_statement_covers_its_own_stretch(second: Statement, names: dict[int, str | None]):
    """With effective_from it is laid over, without it replaces the whole chain."""
    first = stated(version("old", None, None), whole=True, revision=1)
    catalog = build_catalog([first, second], timezone=ZONE)
    assert {number: observed(catalog, noon(number)) for number in names} == names


def test_a_retired_object_keeps_its_past():
    """From its recorded instant on a retired object is nothing, before it is what it was."""
    first = stated(version("old", None, None), whole=True, revision=1)
    gone = Statement(
        revision=2,
        kind=Kind.PRODUCTS,
        id="p",
        recorded_at=noon(6),
        retired=True,
        whole_chain=True,
        versions=(),
    )
    catalog = build_catalog([first, gone], timezone=ZONE)
    assert observed(catalog, Micros(noon(6) - 1)) == "old"
    assert observed(catalog, noon(6)) is None
    assert catalog.revision == 2
    assert catalog.recorded_at == noon(6)
