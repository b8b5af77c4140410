"""The charge models that rate. Adding one is a file beside this and a line here."""

from __future__ import annotations

from typing import Any

from catalog.charges import MODEL_NAMES, Charge
from rating.charges import flat, graduated, package, per_unit, volume
from rating.charges.base import ChargeModel

MODELS: dict[type[Charge], ChargeModel[Any]] = {
    model.kind: model
    for model in (
        flat.MODEL,
        per_unit.MODEL,
        package.MODEL,
        graduated.MODEL,
        volume.MODEL,
    )
}
"""By the charge they price. A charge that is not here is refused at apply, by its name."""


def model_name(charge: Charge) -> str:
    """What the catalog's grammar calls the model of ``charge``."""
    return next(name for name, kind in MODEL_NAMES.items() if kind is type(charge))
