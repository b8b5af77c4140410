"""The charge models that rate. Adding one is a file beside this and a line here."""

from __future__ import annotations

from typing import Any

from catalog.charges import MODEL_NAMES, Charge
from catalog.grammar.charges import FORMS
from catalog.grammar.nodes import Record
from rating.charges import (
    capacity,
    dynamic,
    events,
    flat,
    graduated,
    graduated_percentage,
    matrix,
    package,
    per_unit,
    percentage,
    stairstep,
    volume,
)
from rating.charges.base import ChargeModel, Composed

MODELS: dict[type[Charge], ChargeModel[Any]] = {
    model.kind: model
    for model in (
        flat.MODEL,
        per_unit.MODEL,
        package.MODEL,
        graduated.MODEL,
        volume.MODEL,
        stairstep.MODEL,
        graduated_percentage.MODEL,
        percentage.MODEL,
    )
}
"""By the charge they price. A charge that is not here is refused at apply, by its name."""

COMPOSED: dict[type[Charge], Composed[Any]] = {
    model.kind: model for model in (events.MODEL, matrix.MODEL, dynamic.MODEL, capacity.MODEL)
}
"""Models that price a line in pieces, each by one of MODELS (percentage: where it has terms for
each event)."""


def add_model(name: str, model: ChargeModel[Any], *, form: Record[Any]) -> None:
    """Teach this process a charge model: its ``form`` in documents under ``name``, its formula.

    Every process that reads the catalog has to, before it does.

    Raises:
        ValueError: there is a model of that name, or one that prices that kind of charge.
    """
    if name in FORMS or model.kind in MODELS or model.kind in COMPOSED:
        raise ValueError(f"there is a charge model {name!r} already")
    FORMS[name] = form
    MODEL_NAMES[name] = model.kind
    MODELS[model.kind] = model


def composed(charge: Charge) -> Composed[Any] | None:
    """The model of a charge that prices a line in pieces; None where it takes one quantity."""
    model = COMPOSED.get(type(charge))
    return model if model is not None and model.applies(charge) else None


def model_name(charge: Charge) -> str:
    """What the catalog's grammar calls the model of ``charge``."""
    return next(name for name, kind in MODEL_NAMES.items() if kind is type(charge))
