"""POST /v1/entitlements/check, in plain ASGI and on the express way."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.types import Receive, Scope, Send

from api.hot.body import read_flags
from api.hot.check_texts import CheckTexts, Told
from api.hot.counts import counts
from api.hot.decision_bodies import BODY_BYTES_MAX, body_of
from api.hot.dispatch import respond
from api.hot.express import Call
from api.hot.shown import shown_decision
from api.hot.turns import Turns
from api.reach import check_customers
from entitlements.checks import Checks, Plan
from entitlements.requests import Decision

_Asked = tuple[list[Told], list[Plan]]


class CheckEntitlements:
    """POST /v1/entitlements/check: what would be allowed now; nothing is consumed."""

    def __init__(self, *, checks: Checks) -> None:
        self._checks = checks
        self._texts = CheckTexts()
        self._turns = Turns(self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, its checks in the order given."""
        if scope["query_string"]:
            read_flags(scope, ())
        asked = self._texts.read(await body_of(receive))
        check_customers(scope, (told.check.customer for told in asked))
        decided = await self._checks.decide(self._planned(asked))
        await respond(send, await self._finished(asked, decided), content_type=b"application/json")

    def take(self, call: Call) -> bool:
        """Take a request, to ask the ledger with the others of this turn: :mod:`api.hot.express`.

        Raises:
            DomainError: see :meth:`CheckTexts.read` and :meth:`Checks.plan`.
        """
        if len(call.body) > BODY_BYTES_MAX:
            return False
        asked = self._texts.read(call.body)
        self._turns.join(call, (asked, self._planned(asked)))
        return True

    def _planned(self, asked: Sequence[Told]) -> list[Plan]:
        return self._checks.plan([told.check for told in asked])

    async def _answer(self, turn: Sequence[tuple[Call, _Asked]]) -> None:
        """Answer the calls of one turn of the loop; one that must wait does so alone."""
        decided = await self._checks.decide([plan for _, (_, plans) in turn for plan in plans])
        first = 0
        for call, (asked, plans) in turn:
            decisions = decided[first : first + len(plans)]
            first += len(plans)
            if None in decisions:
                call.run(self._finished(asked, decisions))
            else:
                call.answer(_counted_and_shown(asked, decisions))

    async def _finished(self, asked: Sequence[Told], decided: Sequence[Decision | None]) -> bytes:
        if None in decided:
            decided = await self._checks.finish([told.check for told in asked], decided)
        return _counted_and_shown(asked, decided)


def _counted_and_shown(asked: Sequence[Told], decided: Sequence[Decision | None]) -> bytes:
    """The answer to checks, whose decisions are counted here: it is made once for each request."""
    counts.decided_all("check", [decision for decision in decided if decision is not None])
    shown = [
        told.shown if told.decision is decision else _shown(told, decision)
        for told, decision in zip(asked, decided, strict=True)
        if decision is not None
    ]
    return b'{"results":[%b]}' % b",".join(shown)


def _shown(told: Told, decision: Decision) -> bytes:
    told.decision = decision
    told.shown = orjson.dumps({"customer": told.check.customer, **shown_decision(decision)})
    return told.shown
