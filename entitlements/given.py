"""Grants bought or given beside a contract's allowances: facts, each stated once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NewType

from catalog.clock import Micros
from catalog.ids import CustomerId, FeatureId
from catalog.pricebooks import Anchor

GrantId = NewType("GrantId", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenGrant:
    """An amount of a feature, in nano-units, usable in ``[effective, expires)``.

    ``rollover_max`` is how much of it survives a reset of the feature; null: all. With
    ``every_months`` the amount is given anew so often, counted from its beginning or the calendar,
    and ``rollover_max`` is what survives *that*; null: nothing. A revoked grant ends when it was
    revoked: what it paid before stays paid. ``revision`` is of its last change.
    """

    id: GrantId
    customer: CustomerId
    feature: FeatureId
    amount: int
    priority: int
    effective: Micros
    expires: Micros
    rollover_max: int | None
    recorded_at: Micros
    every_months: int | None = None
    anchor: Anchor = Anchor.CONTRACT
    revoked_at: Micros | None = None
    revision: int = 0

    @property
    def until(self) -> Micros:
        """When nothing more of it can be used."""
        return self.expires if self.revoked_at is None else min(self.expires, self.revoked_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantBook:
    """Every grant ever given, as of one revision. Immutable; equal revisions are equal books.

    ``newly`` are the customers whose grants it states otherwise than revision ``extends``.
    """

    revision: int = 0
    by_customer: Mapping[CustomerId, tuple[GivenGrant, ...]] = field(default_factory=dict)
    extends: int = field(default=0, compare=False)
    newly: frozenset[CustomerId] = field(default=frozenset(), compare=False)

    def of(self, customer: CustomerId) -> tuple[GivenGrant, ...]:
        """A customer's grants in the order they were given, revoked ones too."""
        return self.by_customer.get(customer, ())

    def extended(self, stated: Iterable[GivenGrant], *, revision: int) -> GrantBook:
        """This book with newer statements; the later one about a grant replaces the earlier."""
        changed: dict[CustomerId, dict[GrantId, GivenGrant]] = {}
        for grant in stated:
            own = changed.setdefault(
                grant.customer, {known.id: known for known in self.of(grant.customer)}
            )
            own[grant.id] = grant
        listed = {customer: tuple(own.values()) for customer, own in changed.items()}
        return GrantBook(
            revision=revision,
            by_customer={**self.by_customer, **listed},
            extends=self.revision,
            newly=frozenset(listed),
        )

    def changed_since(self, before: GrantBook) -> frozenset[CustomerId]:
        """The customers whose grants are not those of an earlier book."""
        if self.revision == before.revision:
            return frozenset()
        if self.extends == before.revision:
            return self.newly
        return frozenset(
            customer for customer, own in self.by_customer.items() if own != before.of(customer)
        )


NO_GRANTS = GrantBook()
