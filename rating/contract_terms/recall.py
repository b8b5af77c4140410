"""Which lines must be rated so that the terms of contracts as a whole are right in a period."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from catalog.clock import Micros
from catalog.ids import ContractId
from catalog.periods import Period, PeriodSpec
from rating.contract_terms.account import Reach
from rating.contract_terms.agreement import Agreement, Agreements
from rating.plan import Accounted, Chosen
from rating.timeline import Term


@dataclass(frozen=True, slots=True)
class Recalled:
    """Billing periods begun by ``as_of`` that fall due from ``since`` up to the period's end."""

    since: Micros
    spec: PeriodSpec
    as_of: Micros

    def window(self, term: Term) -> tuple[Micros, Micros]:
        """From ``since`` to the end of the accounting period."""
        return self.since, self.spec.bounds(term.timezone)[1]

    def wants(self, period: Period, accounting: date) -> bool:
        """Begun, and counting before the accounting period's end."""
        return period.start <= self.as_of and accounting < self.spec.until


class Recalling:
    """Billing periods that count in a period, and those before them that its terms look back to.

    Contracts without terms as a whole look back to nothing.
    """

    def __init__(self, spec: PeriodSpec, as_of: Micros, agreements: Agreements) -> None:
        self._spec = spec
        self._as_of = as_of
        self._agreements = agreements
        self._found: dict[ContractId, tuple[Agreement, Reach] | None] = {}

    def of(self, term: Term) -> Chosen:
        """What counts in the period; where the contract looks back, from then on."""
        found = self.reach(term)
        if found is None:
            return Accounted(self._spec, self._as_of)
        return Recalled(found[1].since, self._spec, self._as_of)

    def reach(self, term: Term) -> tuple[Agreement, Reach] | None:
        """The contract's agreement and how far it is settled; null where it has none."""
        contract = term.contract.id
        if contract not in self._found:
            self._found[contract] = self._reach(term)
        return self._found[contract]

    def _reach(self, term: Term) -> tuple[Agreement, Reach] | None:
        agreement = self._agreements.of(term)
        if agreement is None:
            return None
        first, _ = self._spec.bounds(term.timezone)
        since = agreement.since(first)
        return agreement, Reach(since=since, until=self._spec.until, as_of=self._as_of)
