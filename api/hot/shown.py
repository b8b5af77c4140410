"""Decisions as JSON."""

from __future__ import annotations

from typing import Any

from entitlements.amounts import to_text
from entitlements.requests import Decision, ItemDecision


def shown_decision(decision: Decision) -> dict[str, Any]:
    """A decision as JSON."""
    return {"allowed": decision.allowed, "items": [_shown_item(item) for item in decision.items]}


def text_of(nanos: int | None) -> str | None:
    """An amount as JSON; null stays null."""
    return None if nanos is None else to_text(nanos)


def _shown_item(item: ItemDecision) -> dict[str, Any]:
    return {
        "feature": item.feature,
        "allowed": item.allowed,
        "balance": text_of(item.balance),
        "reason": item.reason,
    }
