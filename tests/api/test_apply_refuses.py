"""What `tallyman apply` refuses of prices and contracts, with the file, line and field of each."""

from __future__ import annotations

import re

import pytest

from rating.support import unsupported
from tests.api.test_apply_command import run, served, store  # noqa: F401 - the last a fixture

GOOD = """\
meters:
  calls: {event_type: call, aggregation: sum, value: data.n}
  level: {event_type: level, aggregation: weighted_sum, value: data.n}
products:
  api: {name: API, meter: calls}
  store: {name: Storage, meter: level}
  fee: {name: Fee}
pricebooks:
  usd:
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    prices:
      - {product: api, charge: {model: per_unit, unit_price: 0.01}}
  eur:
    currency: EUR
    invoicing: {timing: arrears, every_months: 1}
    prices:
      - {product: api, charge: {model: per_unit, unit_price: 0.02}}
customers:
  acme: {name: Acme, subjects: [acme]}
contracts:
  k:
    customer: acme
    pricebook: usd
    start: 2026-01-01
"""
LIST = "      - {product: api, charge: {model: per_unit, unit_price: 0.01}}"
LIST_PRICE = "pricebooks.usd.prices.0"
TERMS = "    start: 2026-01-01"


def listed(charge: str, product: str = "api", more: str = "") -> tuple[str, str]:
    """The list price with another charge."""
    return LIST, f"      - {{product: {product}, charge: {{{charge}}}{more}}}"


def termed(*lines: str) -> tuple[str, str]:
    """The contract with more lines."""
    return TERMS, "\n".join([TERMS, *(f"    {line}" for line in lines)])


IN_TWO = (
    "  k:\n    customer: acme\n    pricebook: usd\n    start: 2026-01-01",
    """\
  k:
    versions:
      - {customer: acme, pricebook: usd, start: 2026-01-01}
      - {effective_from: 2026-03-01, customer: acme, pricebook: eur, start: 2026-01-01}""",
)
CHANGING = (
    "  usd:\n    currency: USD",
    """\
  usd:
    versions:
      - {currency: USD, invoicing: {timing: once}, prices: []}
      - {currency: JPY, invoicing: {timing: once}, prices: [], effective_from: 2026-02-01}
  other:
    currency: USD""",
)

CASES = {
    # mixed currencies
    "a contract in another currency": (termed("currency: EUR"), 26, "contracts.k.currency", "USD"),
    "an amendment to another currency": (
        termed("amendments:", "  - {effective_from: 2026-03-01, pricebook: eur}"),
        27,
        "contracts.k.amendments.0.pricebook",
        "EUR",
    ),
    "a version in another currency": (IN_TWO, 25, "contracts.k.versions.1.pricebook", "USD"),
    "a list that changes currency": (
        CHANGING,
        12,
        "pricebooks.usd.versions.1.currency",
        "a chain keeps its currency",
    ),
    # malformed prices
    "no number": (listed("model: per_unit, unit_price: cheap"), 13, "charge.unit_price", "decimal"),
    "a finer price than is exact": (
        listed("model: per_unit, unit_price: 0.0000000000001"),
        13,
        "charge.unit_price",
        "12 decimals",
    ),
    "a larger price than is promised": (
        listed("model: per_unit, unit_price: 100000000000000"),
        13,
        "charge.unit_price",
        "",
    ),
    "a missing price": (listed("model: per_unit"), 13, "charge", "unit_price"),
    "a model there is not": (
        listed("model: perunit, unit_price: 1"),
        13,
        "charge.model",
        "must be",
    ),
    "a word too many": (
        listed("model: per_unit, unit_price: 1, unit: kB"),
        13,
        "charge.unit",
        "",
    ),
    "packages of nothing": (listed("model: package, size: 0, package_price: 1"), 13, "size", ""),
    "a maximum below the minimum": (
        listed("model: per_unit, unit_price: 1", more=", minimum: 5, maximum: 4"),
        13,
        "",
        "minimum",
    ),
    # tiers
    "tiers that overlap": (
        listed("model: graduated, tiers: [{up_to: 10, unit_price: 2}, {up_to: 5, unit_price: 1}]"),
        13,
        "charge.tiers.1.up_to",
        "10",
    ),
    "a tier of nothing": (
        listed("model: volume, tiers: [{up_to: 10, unit_price: 2}, {up_to: 10, unit_price: 1}]"),
        13,
        "charge.tiers.1.up_to",
        "10",
    ),
    "an open tier before the last": (
        listed("model: graduated, tiers: [{unit_price: 2}, {up_to: 5, unit_price: 1}]"),
        13,
        "charge.tiers.0",
        "only the last",
    ),
    "no tiers": (listed("model: graduated, tiers: []"), 13, "charge.tiers", ""),
    # what is not there
    "a product there is not": (
        listed("model: per_unit, unit_price: 1", product="apy"),
        13,
        "product",
        "there is no product 'apy'",
    ),
    "usage of a product without a meter": (
        listed("model: per_unit, unit_price: 1", product="fee"),
        13,
        "charge",
        "has no meter",
    ),
    "a meter there is not": (
        ("meter: calls}", "meter: clals}"),
        5,
        "products.api.meter",
        "there is no meter 'clals'",
    ),
    "an override of no list price": (
        termed("prices:", '  - {product: fee, multiply: "0.9"}'),
        27,
        "contracts.k.prices.0",
        "has no price of 'fee'",
    ),
    "a meter that a term cannot count": (
        listed("model: per_unit, unit_price: 1", product="store", more=", bucket: 1h"),
        13,
        LIST_PRICE,
        "weighted_sum",
    ),
}


@pytest.fixture
def url(store):  # noqa: F811
    """The real routes, refusing what the rating engine refuses."""
    with served(store, unsupported=unsupported) as address:
        yield address


@pytest.mark.parametrize(("change", "line", "field", "reason"), CASES.values(), ids=CASES)
def test_it_is_refused_where_it_is_written(url, tmp_path, store, change, line, field, reason):  # noqa: F811
    """One line that an editor can open, what is wrong there, and nothing is changed."""
    old, new = change
    assert GOOD.count(old) == 1
    file = tmp_path / "catalog.yaml"
    file.write_text(GOOD.replace(old, new))
    result = run(url, file)
    assert result.exit_code == 1, result.output
    first = result.stderr.splitlines()[0]
    found = re.fullmatch(rf"{file}:(\d+): ([\w.-]+): (.*)", first)
    assert found is not None, result.stderr
    assert (int(found[1]), field in found[2], reason in found[3]) == (line, True, True), first
    assert store.revision() == 0


def test_the_same_without_a_mistake_is_applied(url, tmp_path):
    """The file that every case changes is good."""
    file = tmp_path / "catalog.yaml"
    file.write_text(GOOD)
    assert run(url, file).exit_code == 0
