"""``products: {p: {name, meter?, filter?, tax_code?}}`` and ``features: {f: {kind, meter?}}``."""

from __future__ import annotations

from catalog.grammar.meters import DIMENSION_FILTER
from catalog.grammar.nodes import Fields, Record, may, need
from catalog.grammar.scalars import METER, NAME, NAMED, choice
from catalog.products import Feature, FeatureKind, Product


def _check_product(product: Product, fields: Fields) -> None:
    if product.filter and product.meter is None:
        fields.refuse("filter", "needs a meter whose dimensions it names")


def _check_feature(feature: Feature, fields: Fields) -> None:
    metered = feature.kind is FeatureKind.METERED
    if metered and feature.meter is None:
        fields.missing("'meter' is missing: the feature is metered")
    if not metered and feature.meter is not None:
        fields.refuse("meter", f"a {feature.kind} feature has none")


PRODUCTS = Record(
    Product,
    need("name", NAME),
    may("meter", METER),
    may("filter", DIMENSION_FILTER),
    may("tax_code", NAMED),
    check=_check_product,
)

FEATURES = Record(
    Feature,
    need("kind", choice(FeatureKind)),
    may("meter", METER),
    check=_check_feature,
)
