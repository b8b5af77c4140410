"""Where a customer stands with a feature: what GET shows."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.clock import Micros
from catalog.errors import NotFound
from catalog.ids import CustomerId, FeatureId
from catalog.periods import FOREVER
from catalog.products import FeatureKind
from entitlements import burndown
from entitlements.burndown import Lot
from entitlements.grants import Schedule, Segment
from entitlements.ports import Account
from entitlements.schedules import Schedules
from entitlements.slots import grants_access, static_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """One feature of one customer. Amounts are nano-units.

    ``allowance``, ``balance`` and ``overage`` are null where unlimited; those, ``used`` and
    ``held`` where nothing is counted. ``resets_at`` is the next reset, null where none comes.
    """

    feature: FeatureId
    has_access: bool
    value: str | None = None
    allowance: int | None = None
    used: int | None = None
    held: int | None = None
    balance: int | None = None
    overage: int | None = None
    resets_at: Micros | None = None
    grants: tuple[Lot, ...] = ()


def features_of(schedules: Schedules, customer: CustomerId) -> list[FeatureId]:
    """The features any contract of the customer ever names, sorted.

    Raises:
        NotFound: no such customer.
    """
    if customer not in schedules.catalog.customers:
        raise NotFound(f"no customer {customer!r}")
    return sorted(schedules.of(customer))


def balance_of(
    schedules: Schedules,
    customer: CustomerId,
    feature: FeatureId,
    *,
    account: Account,
    now: Micros,
) -> Balance:
    """Where the customer stands with ``feature`` at ``now``, by the totals in ``account``.

    Raises:
        NotFound: no such feature.
    """
    found = schedules.feature_at(feature, now)
    if found is None:
        raise NotFound(f"no feature {feature!r}")
    schedule = schedules.of(customer).get(feature)
    segment = schedule.segment_at(now) if schedule else None
    if found.kind is not FeatureKind.METERED:
        if schedule is None or segment is None or not segment.grants:
            return Balance(feature=feature, has_access=False)
        static = static_value(schedule, now) if found.kind is FeatureKind.STATIC else None
        return Balance(feature=feature, has_access=grants_access(schedule, now), value=static)
    if schedule is None or segment is None:
        return Balance(
            feature=feature, has_access=False, allowance=0, used=0, held=0, balance=0, overage=0
        )
    reading = schedules.reading_at(feature, now)
    if reading is None or not reading.additive:
        return Balance(feature=feature, has_access=bool(segment.grants))
    return _metered(feature, schedule, account, now)


def _metered(feature: FeatureId, schedule: Schedule, account: Account, now: Micros) -> Balance:
    history = schedule.history(now)
    segment = history[-1]
    totals: dict[int, int] = {s.start: account.totals.get((feature, s.start), 0) for s in history}
    holds: dict[int, int] = {s.start: account.held.get((feature, s.start), 0) for s in history}
    standing = burndown.standing(history, totals)
    # Holds of earlier segments may reach into this one: as if they were used.
    taken = burndown.standing(history, {at: used + holds[at] for at, used in totals.items()})
    available = taken.available
    held = holds[segment.start] if segment.unlimited else standing.available - available
    if segment.unlimited:
        used = totals[segment.start]
        return Balance(
            feature=feature,
            has_access=True,
            used=used,
            held=held,
            resets_at=_resets_at(segment),
            grants=standing.lots,
        )
    return Balance(
        feature=feature,
        has_access=bool(segment.grants) and (segment.soft or available > 0),
        allowance=standing.granted,
        used=standing.used,
        held=held,
        balance=max(0, available),
        overage=max(0, standing.used - standing.granted),
        resets_at=_resets_at(segment),
        grants=standing.lots,
    )


def _resets_at(segment: Segment) -> Micros | None:
    resets = [grant.expires for grant in segment.grants if grant.resets]
    return min(resets) if resets and min(resets) < FOREVER else None
