"""A contract as a whole over time: what it has agreed when, and the windows it counts in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Generic, TypeVar

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.ids import ContractId
from catalog.periods import FOREVER, Period, billing_periods
from catalog.pricebooks import Anchor, Invoicing, Prorate, Timing
from catalog.snapshot import Catalog, resolve
from rating.overrides import bounds
from rating.shares import WHOLE, in_force
from rating.timeline import Agreed, Term, Timelines

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is agreed over ``[start, end)``."""

    start: Micros
    end: Micros
    agreed: Agreed


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise(Generic[P]):
    """A term as it stands over ``[start, end)`` of a window in which its amount is counted.

    Like a fixed fee in arrears: not prorated, the amount is due whole, under the terms at the
    window's end (``due``), and spend counts from the window's start (``since``). Prorated, each
    stretch counts for itself, and bears ``share`` of the amount.
    """

    stated: P
    agreed: Agreed
    window: Period
    since: Micros
    start: Micros
    end: Micros
    share: Fraction
    due: bool


class Agreement:
    """One contract's terms as a whole, looked up by instant and by window."""

    def __init__(self, timelines: Timelines, term: Term) -> None:
        self._timelines = timelines
        self.term = term
        self.last = FOREVER if term.end is None else term.end

    @cached_property
    def states(self) -> list[State]:
        """What is agreed, from the contract's start to its end; nothing in a gap of its chain."""
        term, zone = self.term, self.term.timezone
        moments = set(bounds(term.chain.versions, zone))
        moments |= {
            resolve(amendment.effective_from, zone)
            for contract in term.chain.values
            for amendment in contract.amendments
        }
        inside = {m for m in moments if term.start < m < self.last}
        cuts = sorted({term.start, self.last, *inside})
        found = ((start, end, self._timelines.agreed(term, start)) for start, end in pairwise(cuts))
        return [State(start=Micros(s), end=Micros(e), agreed=a) for s, e, a in found if a]

    def at(self, instant: int) -> Agreed | None:
        """What is agreed at ``instant``."""
        return next((s.agreed for s in self.states if s.start <= instant < s.end), None)

    @cached_property
    def _anchor(self) -> Anchor:
        return self.states[0].agreed.invoicing.anchor if self.states else Anchor.CONTRACT

    def windows(self, every_months: int | None, *, since: int, until: int) -> list[Period]:
        """Windows of so many months (null: the whole term) that meet ``[since, until)``.

        Anchored as the contract's own billing periods are; the last is cut by the contract's end.
        """
        timing = Timing.ONCE if every_months is None else Timing.ARREARS
        cadence = Invoicing(timing=timing, every=every_months or 1, anchor=self._anchor)
        return self.periods(cadence, since=since, until=until)

    def billed(self, instant: int) -> Period | None:
        """The billing period of the contract's own invoicing that holds ``instant``.

        Null where it is not in arrears: then what falls due is billed by itself.
        """
        agreed = self.at(instant)
        if agreed is None or agreed.invoicing.timing is not Timing.ARREARS:
            return None
        return next(iter(self.periods(agreed.invoicing, since=instant, until=instant + 1)), None)

    def pool(self, instant: int, agreed: Agreed) -> Micros:
        """Where the billing period of the contract begins that holds ``instant``."""
        found = self.periods(agreed.invoicing, since=instant, until=instant + 1)
        return found[0].start if found else self.term.start

    def periods(self, invoicing: Invoicing, *, since: int, until: int) -> list[Period]:
        """The contract's periods of any cadence that meet ``[since, until)``."""
        return billing_periods(
            start=self.term.start,
            end=self.term.end,
            invoicing=invoicing,
            timezone=self.term.timezone,
            since=Micros(since),
            until=Micros(until),
        )

    def promises(self, pick: Callable[[Contract], P | None], window: Period) -> list[Promise[P]]:
        """How the term that ``pick`` names stands over ``window``; equal neighbours are one."""
        found: list[Promise[P]] = []
        for state in self.states:
            start, end = max(state.start, window.start), min(state.end, window.end)
            stated = pick(state.agreed.contract)
            if stated is None or start >= end:
                continue
            past = found[-1] if found else None
            if past and (past.end, past.stated) == (start, stated):
                start = past.start
                found.pop()
            found.append(self._promise(stated, state.agreed, window, (start, end)))
        return found

    def _promise(
        self, stated: P, agreed: Agreed, window: Period, held: tuple[Micros, Micros]
    ) -> Promise[P]:
        start, end = held
        prorated = agreed.prorate is not Prorate.NO
        share = WHOLE
        if prorated:
            zone = self.term.timezone
            share = in_force(window, start, end, prorate=agreed.prorate, timezone=zone)
        return Promise(
            stated=stated,
            agreed=agreed,
            window=window,
            since=start if prorated else window.start,
            start=start,
            end=end,
            share=share,
            due=prorated or end == window.end,
        )

    def since(self, instant: Micros) -> Micros:
        """From when on lines must be known so that those due from ``instant`` on are right.

        The start of every window that reaches in; credits, and a commitment over the whole term,
        look back to the contract's start.
        """
        held = [state.agreed.contract for state in self.states]
        every = {c.every_months for contract in held for c in contract.commitments}
        if None in every or any(contract.credits for contract in held):
            return min(instant, self.term.start)
        every |= {contract.minimum.every_months for contract in held if contract.minimum}
        pooled = any(d.amount is not None for contract in held for d in contract.discounts)
        earliest = instant
        while every or pooled:
            starts = [earliest]
            for months in every:
                windows = self.windows(months, since=earliest, until=earliest + 1)
                starts.extend(window.start for window in windows)
            agreed = self.at(earliest)
            if agreed is not None:
                starts.append(self.pool(earliest, agreed))
            if min(starts) == earliest:
                break
            earliest = min(starts)
        return earliest


class Agreements:
    """The agreements of one catalog: of contracts that have any term as a whole."""

    def __init__(self, catalog: Catalog) -> None:
        self._timelines = Timelines(catalog)
        self._found: dict[ContractId, Agreement | None] = {}

    def of(self, term: Term) -> Agreement | None:
        """The contract's, or null where none of its versions has such a term."""
        contract = term.contract.id
        if contract not in self._found:
            has = any(map(_has_terms, term.chain.values))
            self._found[contract] = Agreement(self._timelines, term) if has else None
        return self._found[contract]


def _has_terms(contract: Contract) -> bool:
    stated: list[object] = [contract.discounts, contract.commitments, contract.credits]
    stated += [contract.minimum, contract.trial]
    stated += [named for a in contract.amendments for named in (a.discounts, a.commitments)]
    return any(stated)
