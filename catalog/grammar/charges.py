"""``charge: {model: …}``: one codec a model, told apart by ``model``."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import cast

from catalog.charges import (
    MODEL_NAMES,
    Beyond,
    Capacity,
    CapacityTier,
    Charge,
    Dynamic,
    Flat,
    Graduated,
    GraduatedPercentage,
    Matrix,
    MatrixRow,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Stairstep,
    Tier,
    Volume,
)
from catalog.grammar.matrices import ties
from catalog.grammar.nodes import Codec, Fields, Node, Record, Skip, listed, mapped, may, need, step
from catalog.grammar.scalars import (
    BOOLEAN,
    FACTOR,
    METER,
    NAMED,
    PATH,
    QUANTITY_ABOVE_0,
    QUANTITY_GIVEN,
    SIGNED_PRICE,
    WORD,
    choice,
    decimal,
    integer,
)
from catalog.money import PRICE

TIERS_MAX = 1_000
ROWS_MAX = 2_000

_PERCENT = decimal(PRICE, least=-1_000, most=1_000)


def _check_ascending(bounds: Sequence[Decimal | None], fields: Fields) -> None:
    """Tiers run from 0 upwards without gaps or overlap; only the last may be open."""
    floor = Decimal(0)
    for index, up_to in enumerate(bounds):
        place = step(f"{fields.node.pointer}/tiers", index)
        if up_to is None:
            if index < len(bounds) - 1:
                fields.node.problems.note(place, "only the last tier may be without 'up_to'")
                return
        elif up_to <= floor:
            fields.node.problems.note(
                step(place, "up_to"), f"must be above {floor}, where the tier before ends"
            )
            return
        else:
            floor = up_to


def _check_tiers(
    charge: Graduated | Volume | Stairstep | GraduatedPercentage, fields: Fields
) -> None:
    _check_ascending([tier.up_to for tier in charge.tiers], fields)


def _check_tier(tier: Tier, fields: Fields) -> None:
    if tier.unit_price is None and tier.flat_fee is None:
        fields.missing("needs a 'unit_price' or a 'flat_fee'")
    if tier.package_size is not None and tier.unit_price is None:
        fields.refuse("package_size", "needs the 'unit_price' of a package")


_TIER = Record(
    Tier,
    may("up_to", QUANTITY_ABOVE_0),
    may("unit_price", SIGNED_PRICE),
    may("flat_fee", SIGNED_PRICE),
    may("package_size", QUANTITY_ABOVE_0),
    may("maximum", SIGNED_PRICE),
    check=_check_tier,
)
_BAND = Record(Tier, may("up_to", QUANTITY_ABOVE_0), need("flat_fee", SIGNED_PRICE))


_PERCENT_TIER = Record(
    PercentTier,
    may("up_to", QUANTITY_ABOVE_0),
    need("percent", _PERCENT),
    may("flat_fee", SIGNED_PRICE),
)
_CAPACITY_TIER = Record(
    CapacityTier,
    may("up_to", mapped(METER, QUANTITY_GIVEN, least=1, most=64)),
    need("amount", SIGNED_PRICE),
)


def _tiered(cls: type[Graduated | Volume]) -> Record[Graduated | Volume]:
    return Record(
        cls,
        need("tiers", listed(_TIER.codec, least=1, most=TIERS_MAX)),
        may("flat_fee_when_unused", BOOLEAN),
        may("beyond", choice(Beyond)),
        check=_check_tiers,
    )


def _check_percentage(charge: Percentage, fields: Fields) -> None:
    low, high = charge.event_minimum, charge.event_maximum
    if low is not None and high is not None and low > high:
        fields.refuse("event_maximum", "must not be below 'event_minimum'")


def _read_row(node: Node) -> MatrixRow:
    fields = Fields(node)
    when = fields.need("when", mapped(NAMED, WORD, least=1, most=64))
    form = fields.one_of("unit_price", "charge")
    charge: Charge = (
        fields.need("charge", CHARGE)
        if form == "charge"
        else PerUnit(unit_price=fields.need("unit_price", SIGNED_PRICE))
    )
    fields.settle()
    if isinstance(charge, Matrix | Capacity | Dynamic):
        fields.refuse("charge", "cannot be matrix, capacity or dynamic inside a matrix")
        fields.settle()
    return MatrixRow(when=when, charge=charge)


def _write_row(row: MatrixRow) -> object:
    written: dict[str, object] = {"when": dict(row.when)}
    if isinstance(row.charge, PerUnit):
        return written | {"unit_price": SIGNED_PRICE.write(row.charge.unit_price)}
    return written | {"charge": CHARGE.write(row.charge)}


def _check_matrix(matrix: Matrix, fields: Fields) -> None:
    for first, second in ties(matrix.rows):
        fields.node.problems.note(
            step(f"{fields.node.pointer}/rows", second),
            f"ties with row {first}: some usage matches both with the same number of named keys",
        )


def _check_capacity(charge: Capacity, fields: Fields) -> None:
    """Each plan holds at least as much of the same meters as the one before, and more of one."""
    before: dict[str, Decimal] | None = None
    for index, tier in enumerate(charge.tiers):
        place = step(f"{fields.node.pointer}/tiers", index)
        if tier.up_to is None:
            if index < len(charge.tiers) - 1:
                fields.node.problems.note(place, "only the last tier may be without 'up_to'")
            continue
        held: dict[str, Decimal] = {str(meter): up_to for meter, up_to in tier.up_to}
        if before is not None:
            if held.keys() != before.keys():
                fields.node.problems.note(step(place, "up_to"), "must name the same meters")
            elif held == before or any(held[meter] < before[meter] for meter in held):
                fields.node.problems.note(
                    step(place, "up_to"), "must hold more than the tier before, and nothing less"
                )
        before = held


FORMS: dict[str, Record[Charge]] = cast(
    "dict[str, Record[Charge]]",
    {
        "flat": Record(Flat, need("amount", SIGNED_PRICE)),
        "per_unit": Record(PerUnit, need("unit_price", SIGNED_PRICE)),
        "package": Record(
            Package,
            need("size", QUANTITY_ABOVE_0),
            need("package_price", SIGNED_PRICE),
            may("free_units", QUANTITY_GIVEN),
        ),
        "graduated": _tiered(Graduated),
        "volume": _tiered(Volume),
        "stairstep": Record(
            Stairstep,
            need("tiers", listed(_BAND.codec, least=1, most=TIERS_MAX)),
            may("cumulative", BOOLEAN),
            check=_check_tiers,
        ),
        "graduated_percentage": Record(
            GraduatedPercentage,
            need("tiers", listed(_PERCENT_TIER.codec, least=1, most=TIERS_MAX)),
            may("flat_fee_when_unused", BOOLEAN),
            check=_check_tiers,
        ),
        "percentage": Record(
            Percentage,
            need("percent", _PERCENT),
            may("fixed", SIGNED_PRICE),
            may("free_units", QUANTITY_GIVEN),
            may("free_events", integer(least=0, most=10**9 - 1)),
            may("event_minimum", SIGNED_PRICE),
            may("event_maximum", SIGNED_PRICE),
            check=_check_percentage,
        ),
        "matrix": Record(
            Matrix,
            need("rows", listed(Codec(_read_row, _write_row), least=1, most=ROWS_MAX)),
            may("otherwise", choice(Beyond)),
            check=_check_matrix,
        ),
        "dynamic": Record(Dynamic, need("amount", PATH), may("multiplier", FACTOR)),
        "capacity": Record(
            Capacity,
            need("tiers", listed(_CAPACITY_TIER.codec, least=1, most=TIERS_MAX)),
            check=_check_capacity,
        ),
    },
)


def model_name(charge: Charge) -> str:
    """The grammar's word for a charge's model."""
    return next(name for name, kind in MODEL_NAMES.items() if kind is type(charge))


def _read_charge(node: Node) -> Charge:
    fields = Fields(node)
    model = fields.need("model", WORD)
    if fields.dirty:
        raise Skip
    if model not in FORMS:
        fields.refuse("model", f"must be one of {', '.join(FORMS)}, not {model[:40]!r}")
        raise Skip
    return FORMS[model].build(fields)


def _write_charge(charge: Charge) -> object:
    name = model_name(charge)
    return {"model": name, **FORMS[name].write(charge)}


CHARGE: Codec[Charge] = Codec(_read_charge, _write_charge)
