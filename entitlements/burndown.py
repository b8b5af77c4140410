"""What is left of each grant: usage totals burned segment by segment.

Inside a segment usage burns the active grants by priority, then expiry, then age; what they
cannot hold is debt (overage). At a boundary the debt lives on while every grant lives on (a
grant that is added later pays it), and lapses as soon as one of them ends or resets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from entitlements.grants import Grant, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """A grant with what rolled over into it, and how much of it is burned. Nano-units."""

    grant: Grant
    amount: int
    burned: int

    @property
    def remaining(self) -> int:
        """What is left of it."""
        return self.amount - self.burned


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The lots of a segment, in burn order, and the debt beside them. Nano-units.

    ``debt`` is negative where refunds exceed what was ever burned.
    """

    lots: tuple[Lot, ...]
    debt: int

    @property
    def granted(self) -> int:
        """All that is granted, rollover included."""
        return sum(lot.amount for lot in self.lots)

    @property
    def used(self) -> int:
        """What has been used of it, beyond it included."""
        return sum(lot.burned for lot in self.lots) + self.debt

    @property
    def available(self) -> int:
        """Granted less used: negative in overage."""
        return self.granted - self.used


@dataclass(slots=True)
class _State:
    segment: Segment | None = None
    burned: dict[str, int] = field(default_factory=dict)
    rolled: dict[str, int] = field(default_factory=dict)
    debt: int = 0

    def amount(self, grant: Grant) -> int:
        return grant.amount + self.rolled.get(grant.id, 0)

    def left(self, grant: Grant) -> int:
        return self.amount(grant) - self.burned.get(grant.id, 0)

    def open(self, segment: Segment) -> None:
        before = self.segment.grants if self.segment else ()
        ids = {grant.id for grant in segment.grants}
        if not before or not ids.issuperset(grant.id for grant in before):
            self.debt = 0
        ended = {grant.id: max(0, self.left(grant)) for grant in before}
        for grant in segment.grants:
            if grant.id not in ended:
                remainder = ended.get(grant.previous or "", 0)
                self.rolled[grant.id] = min(grant.rollover_max or 0, remainder)
            elif self.left(grant) < 0:  # its amount was lowered below what is burned
                self.debt -= self.left(grant)
                self.burned[grant.id] = self.amount(grant)
        self.segment = segment
        owed, self.debt = self.debt, 0
        self.use(owed)

    def use(self, total: int) -> None:
        assert self.segment is not None
        if self.segment.unlimited:
            return
        if total < 0:
            self._give_back(-total)
            return
        owed = self.debt + total
        self.debt = min(owed, 0)
        for grant in self.segment.grants:
            burned = min(max(owed, 0), self.left(grant))
            self.burned[grant.id] = self.burned.get(grant.id, 0) + burned
            owed -= burned
        self.debt = owed

    def _give_back(self, refund: int) -> None:
        """Undo burning, last grant first; what exceeds it all stays as negative debt."""
        paid = min(refund, max(self.debt, 0))
        self.debt -= paid
        refund -= paid
        for grant in reversed(self.segment.grants if self.segment else ()):
            undone = min(refund, self.burned.get(grant.id, 0))
            self.burned[grant.id] = self.burned.get(grant.id, 0) - undone
            refund -= undone
        self.debt -= refund

    def standing(self) -> Standing:
        grants = self.segment.grants if self.segment else ()
        lots = tuple(
            Lot(grant=grant, amount=self.amount(grant), burned=self.burned.get(grant.id, 0))
            for grant in grants
        )
        return Standing(lots=lots, debt=self.debt)


def opening(segments: Sequence[Segment], totals: Mapping[int, int]) -> Standing:
    """How the last of ``segments`` opens: before any usage of its own.

    Args:
        segments: a :meth:`~entitlements.grants.Schedule.history`.
        totals: usage by segment start, nano-units; absent is 0.
    """
    return _walked(segments, totals).standing()


def standing(segments: Sequence[Segment], totals: Mapping[int, int]) -> Standing:
    """How the last of ``segments`` stands, its own usage included."""
    state = _walked(segments, totals)
    if segments:
        state.use(totals.get(segments[-1].start, 0))
    return state.standing()


def _walked(segments: Sequence[Segment], totals: Mapping[int, int]) -> _State:
    state = _State()
    for index, segment in enumerate(segments):
        state.open(segment)
        if index + 1 < len(segments):
            state.use(totals.get(segment.start, 0))
    return state
