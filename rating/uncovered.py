"""Lines that no tier, row or plan covers: refused together, each named, so that all can be mended.

A total that left them out would be a wrong number, so the whole question is refused; lines of
other customers are to be had by asking for those.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from catalog.events import EMPTY_DIMENSIONS
from rating.charges.base import NotCovered
from rating.explanation import moment_text
from rating.plan import LinePlan

LINES_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A line (its plan and group) and why it has no price."""

    plan: LinePlan
    group: str
    reason: str

    def __str__(self) -> str:
        plan = self.plan
        key = plan.origin.key
        priced = "" if key == plan.terms.product else f", price {key}"
        group = "" if self.group == EMPTY_DIMENSIONS else f" {self.group}"
        return (
            f"contract {plan.contract}, product {plan.terms.product}{priced}{group}: {self.reason}"
        )

    def as_dict(self) -> dict[str, object]:
        """As a problem lists it."""
        plan = self.plan
        return {
            "customer": plan.customer,
            "contract": plan.contract,
            "product": plan.terms.product,
            "price": plan.origin.key,
            "dimensions": json.loads(self.group),
            "period_start": moment_text(plan.start),
            "period_end": moment_text(plan.end),
            "detail": self.reason,
        }


def refuse_if_any(missed: Sequence[Missed]) -> None:
    """Let through only nothing.

    Raises:
        NotCovered: naming the first in its detail, and all (at most 100) as ``lines``.
    """
    if missed:
        more = f" (and {len(missed) - 1:,} more)" if len(missed) > 1 else ""
        shown = [each.as_dict() for each in missed[:LINES_MAX]]
        raise NotCovered(f"{missed[0]}{more}", lines=shown)
