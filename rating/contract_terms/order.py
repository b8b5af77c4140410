"""The order in which a contract's terms act after its lines, written once: :data:`ORDER`."""

from __future__ import annotations

from collections.abc import Callable

from rating.contract_terms import commitments, discounts, minimum, prepaid, trial
from rating.contract_terms.account import Account, TermLine
from rating.contract_terms.agreement import Agreement

ORDER: tuple[tuple[str, Callable[[Account, Agreement], None]], ...] = (
    ("trial", trial.act),
    ("discounts", discounts.act),
    ("commitments", commitments.act),
    ("minimum", minimum.act),
    ("credits", prepaid.act),
)
"""Each acts on what those before it left, over all documents in the order they fall due."""


def settle(account: Account, agreement: Agreement) -> list[TermLine]:
    """Let every term act on the items of ``account``; returns the lines they made."""
    for _, act in ORDER:
        act(account, agreement)
    return account.lines
