"""Checks: may a customer use this now? Asked over and over, so what a check is planned as is kept.

A check only reads. Where nothing earlier bears on it, what it asks of the ledger is the same every
time (a :class:`Question`), and so is the answer until the account changes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec

from catalog.clock import Clock, Micros
from catalog.ids import CustomerId
from entitlements.answers import Answers, Asked, unknown_customer
from entitlements.openings import Openings
from entitlements.patience import SEEDING_WAIT_S, Patience
from entitlements.places import Places
from entitlements.ports import Demand, Ledger, LedgerUnavailable, Question, Status, Verdict
from entitlements.requests import Decision, Item, Reason
from entitlements.slots import Planned, known_feature

Ask = Callable[[Micros], Asked]
"""Plans a request at an instant."""

AskUntilPresent = Callable[[Ask, Patience], Awaitable[Asked]]
"""Asks for one alone, as often as it takes."""


class Plan(msgspec.Struct, eq=False, gc=False, kw_only=True):
    """What follows from the catalog for a check: under one edition of it, in ``[since, until)``.

    ``planned`` is null where the customer is not known. ``question`` is what the ledger is asked;
    null where the catalog alone decides, or earlier usage bears on it. While the ledger gives the
    same ``verdict``, the decision is the same object.
    """

    customer: CustomerId
    edition: int
    since: Micros = Micros(0)
    until: Micros = Micros(0)
    planned: Planned | None = None
    question: Question | None = None
    verdict: Verdict | None = None
    decision: Decision | None = None


_NO_PLAN = Plan(customer=CustomerId(""), edition=-1)


class Check(msgspec.Struct, eq=False, gc=False):
    """Items asked of a customer, with the last plan: to be kept, and asked again."""

    customer: CustomerId
    items: Sequence[Item]
    plan: Plan = msgspec.field(default_factory=lambda: _NO_PLAN)


class Checks:
    """Decides checks, many at once. One event loop; any number of calls at a time."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        places: Places,
        openings: Openings,
        clock: Clock,
        answers: Answers,
        ask_until_present: AskUntilPresent,
    ) -> None:
        """Wire it to what the decisions of the same gateway use."""
        self._ledger = ledger
        self._places = places
        self._openings = openings
        self._clock = clock
        self._answers = answers
        self._ask_until_present = ask_until_present

    def plan(self, checks: Sequence[Check]) -> list[Plan]:
        """The plan of each, made anew where the catalog or the time has overtaken the last.

        Raises:
            NotFound, InvalidRequest, NotConsumable: a feature or an item is wrong.
        """
        now, edition = self._clock.now_us(), self._places.edition
        return [
            plan
            if (plan := check.plan).edition == edition and plan.since <= now < plan.until
            else self._planned(check, edition, now)
            for check in checks
        ]

    async def decide(self, plans: Sequence[Plan]) -> list[Decision | None]:
        """Ask the ledger once, for all of them. Null is what must be asked again."""
        now = self._clock.now_us()
        asked = [question for plan in plans if (question := plan.question) is not None]
        verdicts: Sequence[Verdict | None] = [None] * len(asked)
        with suppress(LedgerUnavailable):  # then none has a verdict
            verdicts = await self._ledger.look(asked, now=now)
        others: dict[Plan, Decision | None] = {}
        if len(asked) < len(plans):
            others = await self._decide_others(plans, now)
        found = iter(verdicts)
        return [
            others[plan]
            if plan.question is None
            else decision
            if (verdict := next(found)) is plan.verdict and (decision := plan.decision) is not None
            else self._decided(plan, verdict)
            for plan in plans
        ]

    async def finish(
        self, checks: Sequence[Check], decided: Sequence[Decision | None]
    ) -> list[Decision]:
        """Ask again, each on its own, for what was asked too early or not at all.

        One after the other: they wait for their accounts no longer together than one alone would.
        """
        until_s = time.monotonic() + SEEDING_WAIT_S
        return [
            await self._alone(check, Patience(until_s=until_s)) if decision is None else decision
            for check, decision in zip(checks, decided, strict=True)
        ]

    def _planned(self, check: Check, edition: int, now: Micros) -> Plan:
        schedules = self._places.schedules
        if check.customer not in schedules.catalog.customers:
            for item in check.items:
                known_feature(schedules, item.feature, now)
            return Plan(customer=check.customer, edition=edition)
        planned = self._places.plan(check.customer, check.items, now=now)
        plan = Plan(
            customer=check.customer,
            edition=edition,
            since=max(item.standing.since for item in planned.items),
            until=min(item.standing.until for item in planned.items),
            planned=planned,
        )
        slots = planned.slots
        if not slots:
            plan.decision = self._answers.decision(planned, None, None)
        elif all(len(item.standing.history) < 2 for item in planned.items):
            plan.question = Question(customer=check.customer, slots=slots)
        check.plan = plan
        return plan

    def _decided(self, plan: Plan, verdict: Verdict | None) -> Decision | None:
        assert plan.planned is not None
        if verdict is not None and verdict.status is Status.LOST:  # whoever asks again is told so
            return self._answers.decision(plan.planned, None, Reason.RECOVERING)
        if verdict is not None and verdict.status is not Status.DECIDED:
            return None
        outage = Reason.LEDGER_UNAVAILABLE if verdict is None else None
        plan.verdict = verdict
        plan.decision = self._answers.decision(plan.planned, verdict, outage)
        return plan.decision

    async def _decide_others(
        self, plans: Sequence[Plan], now: Micros
    ) -> dict[Plan, Decision | None]:
        """Those without a question: what the catalog decides, and what has a history."""
        found: dict[Plan, Decision | None] = {}
        demands: dict[Plan, Demand] = {}
        for plan in plans:
            if plan.question is None:
                found[plan] = plan.decision
                demand = self._demand(plan, now)
                if demand is not None:
                    demands[plan] = demand
        verdicts: Sequence[Verdict | None] = [None] * len(demands)
        with suppress(LedgerUnavailable):
            verdicts = await self._ledger.decide_all(list(demands.values()))
        for plan, verdict in zip(demands, verdicts, strict=True):
            assert plan.planned is not None
            outage = Reason.LEDGER_UNAVAILABLE if verdict is None else None
            if verdict is None or verdict.status is Status.DECIDED:
                found[plan] = self._answers.decision(plan.planned, verdict, outage)
        return found

    def _demand(self, plan: Plan, now: Micros) -> Demand | None:
        """What is asked where earlier usage bears on it; null unless that is known."""
        planned = plan.planned
        if planned is None or plan.decision is not None:
            return None
        demand = Demand(customer=plan.customer, now=now, slots=planned.slots)
        return self._openings.at_once(planned, demand)

    async def _alone(self, check: Check, patience: Patience) -> Decision:
        """The decision of one check, asked until it is about the present."""
        if check.customer not in self._places.schedules.catalog.customers:
            return unknown_customer(check.items)

        def ask(now: Micros) -> Asked:
            planned = self._places.plan(check.customer, check.items, now=now)
            demand = Demand(customer=check.customer, now=now, slots=planned.slots)
            return Asked(planned=planned, demand=demand)

        asked = await self._ask_until_present(ask, patience)
        return self._answers.decision(asked.planned, asked.verdict, asked.outage)
