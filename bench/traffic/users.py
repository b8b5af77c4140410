"""Who uses the service (DESIGN section 1), and how often.

Of 60 users, 30 are products that post single events, 10 products that post batches and 20 request
paths; one is finance and one the operator, however many the others are. At pace 1 these are some
150 single events, 20 batches and 200 decisions a second.
"""

from __future__ import annotations

import json
import random
import time
from functools import partial
from typing import Any
from urllib.parse import urlencode

from locust import tag, task

from bench.traffic.business import FEATURE_CALLS, PRICEBOOK, PRICES, customer, pricebook
from bench.traffic.events import CONTENT_TYPE, batch_body, packed
from bench.traffic.run import Run
from bench.traffic.samples import Tally
from bench.traffic.sending import Answer, Caller, Insistent, Sending

RESENT_SHARE = 0.01
"""Of bodies that were answered: a product that did not see the answer sends again."""

CALLS_MAX = 3


class Products(Insistent):
    """A product's backend: posts events, and now and then blindly posts them again."""

    abstract = True
    kind = "post one"

    def batch(self) -> int:
        """How many events a body has."""
        return 1

    @tag("ingest")
    @task
    def post(self) -> None:
        """Post new events, or go on with those that were not answered."""
        self.deliver(self._new)

    def _new(self) -> Sending:
        count, run = self.batch(), self.run_
        plain = batch_body(count, run=run.id, customers=run.customers, rng=random)
        body, encoding = packed(plain)
        sending = Sending(
            kind=self.kind,
            path="/v1/events",
            body=body,
            content_type=CONTENT_TYPE,
            encoding=encoding,
            judge=partial(_all_kept, count),
            settled=lambda answer: self._settled(sending, count, answer),
            lost=lambda: run.count(Tally.EVENTS, "unanswered", count),
        )
        return sending

    def _settled(self, sending: Sending, count: int, answer: Answer) -> None:
        run = self.run_
        run.count(Tally.EVENTS, "acknowledged", count)
        run.count(Tally.EVENTS, "duplicates", answer["duplicates"])
        if random.random() < RESENT_SHARE and (again := self.once(sending)):
            run.count(Tally.EVENTS, "duplicates", again["duplicates"])


class PostsOne(Products):
    """Posts each event as it happens."""

    weight = 30
    period_s = 0.2


class PostsBatches(Products):
    """Gathers events and posts many at once."""

    weight = 10
    period_s = 0.5
    kind = "post batch"

    def batch(self) -> int:
        """Around the size that was asked for: an outbox is never equally full."""
        wanted = self.run_.batch
        return random.randint(max(1, wanted // 2), max(1, wanted * 3 // 2))


class RequestPath(Insistent):
    """The product's request path: may this customer do this now?"""

    weight = 20
    period_s = 0.1

    @tag("decide")
    @task(2)
    def check(self) -> None:
        """Ask without taking."""
        who = customer(random.randrange(self.run_.customers))
        asked = {"checks": [{"customer": who, "items": [_calls(1)]}]}
        body = json.dumps(asked).encode()
        answer = self.once(
            Sending(
                kind="check",
                path="/v1/entitlements/check",
                body=body,
                judge=lambda answer: _undecided(answer["results"][0]),
            )
        )
        if answer is not None:
            _note_decision(self.run_, answer["results"][0])

    @tag("decide")
    @task(1)
    def consume(self) -> None:
        """Take some calls, or go on with what was not answered, under the same key."""
        self.deliver(self._new)

    def _new(self) -> Sending:
        run, amount = self.run_, random.randint(1, CALLS_MAX)
        who = customer(random.randrange(run.customers))
        item = {**_calls(amount), "dimensions": {"run": run.id}}
        asked = {"items": [item], "key": f"{run.id}-{random.getrandbits(96):x}"}

        def settled(answer: Answer) -> None:
            _note_decision(run, answer)
            if answer["allowed"]:
                run.count(Tally.CALLS, "acknowledged", amount)

        return Sending(
            kind="consume",
            path=f"/v1/customers/{who}/entitlements/consume",
            body=json.dumps(asked).encode(),
            judge=_undecided,
            settled=settled,
            lost=lambda: run.count(Tally.CALLS, "unanswered", amount),
        )


class Finance(Caller):
    """Pulls the month's totals, and looks at what a customer owes so far."""

    fixed_count = 1
    period_s = 2.0

    def on_start(self) -> None:
        """The month comes first: by weight alone a short run might never ask for it."""
        super().on_start()
        self.totals()

    @tag("finance")
    @task(1)
    def totals(self) -> None:
        """The first page of this month, all customers."""
        params = {"period": time.strftime("%Y-%m", time.gmtime()), "limit": 1_000}
        self.ask("totals", f"/v1/totals?{urlencode(params)}", _no_items)

    @tag("finance")
    @task(3)
    def current(self) -> None:
        """What one customer has used and not been billed."""
        who = customer(random.randrange(self.run_.customers))
        self.ask("current", f"/v1/customers/{who}/current")


class Operator(Caller):
    """Keeps the prices: states another one from the beginning, so that open lines are re-rated."""

    fixed_count = 1
    period_s = 10.0
    _applied = 0

    @tag("operate")
    @task
    def apply_prices(self) -> None:
        """Apply a pricebook that differs in one price."""
        self._applied += 1
        price = PRICES[self._applied % len(PRICES)]
        asked = {"document": {"pricebooks": {PRICEBOOK: pricebook(price)}}}
        body = json.dumps(asked).encode()
        self.once(Sending(kind="apply prices", path="/v1/catalog", body=body))


def _calls(amount: int) -> dict[str, Any]:
    return {"feature": FEATURE_CALLS, "amount": str(amount)}


def _all_kept(count: int, answer: Answer) -> str | None:
    kept = answer["accepted"] + answer["duplicates"]
    return None if kept == count and not answer["rejected"] else f"{kept} of {count} kept"


def _no_items(answer: Answer) -> str | None:
    return None if answer["items"] or answer.get("as_of") else "no totals"


UNDECIDED = ("recovering", "ledger_unavailable")


def _undecided(decision: Answer) -> str | None:
    """A denial because the ledger is away is no decision, and counts as a failure."""
    reason = decision["items"][0]["reason"]
    return f"undecided: {reason}" if reason in UNDECIDED else None


def _note_decision(run: Run, decision: Answer) -> None:
    name = "allowed" if decision["allowed"] else str(decision["items"][0]["reason"])
    run.count(Tally.DECISIONS, name)
