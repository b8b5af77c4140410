"""The ledger as the gateway uses it: one script call a decision, all of them pipelined."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import hiredis

from catalog.clock import Micros
from catalog.ids import CustomerId, FeatureId
from entitlements.ports import (
    Account,
    Demand,
    End,
    Ending,
    EndKind,
    Gate,
    KeyRecord,
    LedgerLost,
    LedgerUnavailable,
    Question,
    Reservation,
    Slot,
    Status,
    Verdict,
)
from storage.redis import spelling
from storage.redis.link import Address, Link, Refused
from storage.redis.looks import look_of
from storage.redis.scripts import (
    CLOSE,
    CONFIRM,
    DECIDE,
    END,
    SCRIPTS,
    STATE,
    Script,
    account_key,
    account_keys,
    account_of,
    deadlines_key,
    end_arguments,
    end_keys,
    expiries_key,
    pack,
    record_key,
    reservation_key,
    unpack,
    unpack_balances,
    watermark_of,
)

POLL_S = 0.05
_LOST = ("lost",)
TIMEOUT_S = 0.045
"""A decision is answered within 50 ms, with or without Redis."""

PART_MAX = 1_000
"""Questions sent at a time: twenty thousand are not answered in time, and nobody else's either."""

T = TypeVar("T")


class RedisLedger:
    """Implements :class:`entitlements.ports.Ledger` on one Redis or Valkey server.

    The ledger's epoch names the server's run: a server that was restarted, even from a snapshot,
    is another one. It is compared on every new connection, and every account carries it.
    """

    def __init__(self, address: Address, *, timeout_s: float = TIMEOUT_S) -> None:
        self._link = Link(address, greet=self._greet, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self._run = ""
        self._epoch: str | None = None
        self._ready = False
        self._watermark = Micros(0)
        self._poll: asyncio.Task[None] | None = None

    @property
    def watermark(self) -> Micros:
        """Every node's log is applied up to here, as last heard from the reader."""
        return self._watermark

    @property
    def ready(self) -> bool:
        """Whether hard limits can be decided now."""
        return self._link.up and self._ready

    async def start(self) -> None:
        """Connect, and keep connecting in the background."""
        await self._link.start()
        self._poll = asyncio.create_task(self._keep_up())

    async def decide(self, demand: Demand) -> Verdict:
        """See :meth:`entitlements.ports.Ledger.decide`."""
        [verdict] = await self.decide_all((demand,))
        if verdict is None:
            raise LedgerUnavailable("the entitlement ledger refused")
        return verdict

    async def decide_all(self, demands: Sequence[Demand]) -> list[Verdict | None]:
        """See :meth:`entitlements.ports.Ledger.decide_all`."""
        return await _in_parts(self._decide_part, demands)

    async def look(self, questions: Sequence[Question], *, now: Micros) -> list[Verdict | None]:
        """See :meth:`entitlements.ports.Ledger.look`. What it cannot tell, the script is asked."""
        asked = list(dict.fromkeys(questions))
        told = await _in_parts(lambda part: self._look_part(part, now), asked)
        found = dict(zip(asked, told, strict=True))
        return [found[question] for question in questions]

    async def _look_part(self, questions: Sequence[Question], now: Micros) -> list[Verdict | None]:
        epoch, until_s = self._epoch, self._until_s()
        if epoch is None:
            return await self._decide_part([question.demand(now) for question in questions])
        if not self._link.up:
            raise LedgerUnavailable("the entitlement ledger is not reachable")
        looks = [look_of(question, epoch) for question in questions]
        replies = await self._link.send([look.command for look in looks])
        found = [
            look.verdict if reply == look.reply else look.read(question, reply)
            for question, look, reply in zip(questions, looks, replies, strict=True)
        ]
        again = [at for at, verdict in enumerate(found) if verdict is None]
        if again:
            demands = [questions[at].demand(now) for at in again]
            with suppress(LedgerUnavailable):  # what was seen stands
                told = await self._decide_part(demands, until_s)
                for at, verdict in zip(again, told, strict=True):
                    found[at] = verdict
        return found

    async def _decide_part(
        self, demands: Sequence[Demand], until_s: float | None = None
    ) -> list[Verdict | None]:
        if not self._link.up:
            raise LedgerUnavailable("the entitlement ledger is not reachable")
        epoch, by_s = self._epoch, until_s or self._until_s()
        replies: list[Any] = [_LOST] * len(demands)
        if epoch is not None:
            spelled = [self._spelled(each, epoch) for each in demands]
            replies = await self._link.send(spelled, until_s=until_s)
        gone = [at for at, reply in enumerate(replies) if _is_gone(reply)]
        if gone:
            told: Sequence[Any] = [None] * len(gone)
            with suppress(LedgerUnavailable):  # the others are decided
                told = await self._again([(demands[at], replies[at]) for at in gone], epoch, by_s)
            for at, reply in zip(gone, told, strict=True):
                replies[at] = reply
        return [self._told(demand, reply) for demand, reply in zip(demands, replies, strict=True)]

    def _spelled(self, demand: Demand, epoch: str) -> bytes:
        return spelling.decide(demand, epoch=epoch, lapse=self._watermark)

    def _told(self, demand: Demand, reply: Any) -> Verdict | None:
        """What a reply means. Null: the server refuses this demand, or did not answer."""
        if reply is None or isinstance(reply, hiredis.ReplyError):
            return None
        if reply[0] == "lost":
            return Verdict(status=Status.UNSEEDED if self._ready else Status.LOST)
        return _verdict(demand, reply)

    async def _again(
        self, gone: Sequence[tuple[Demand, Any]], epoch: str | None, until_s: float
    ) -> Sequence[Any]:
        """Ask once more where the script, or the epoch it was asked under, was gone.

        All together: one account that is not filled must not cost the others a round trip each.
        """
        unloaded = any(isinstance(reply, hiredis.ReplyError) for _, reply in gone)
        if unloaded:
            await self._call("SCRIPT", "LOAD", DECIDE.text, until_s=until_s)
        await self._refresh(until_s)
        known = self._epoch
        if known is None or (known == epoch and not unloaded):
            return [reply for _, reply in gone]
        spelled = [self._spelled(demand, known) for demand, _ in gone]
        return await self._link.send(spelled, until_s=until_s)

    def _until_s(self) -> float:
        """When an answer that is asked for now is due, by the loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout_s

    async def account(self, customer: CustomerId, *, now: Micros) -> Account | None:
        """See :meth:`entitlements.ports.Ledger.account`."""
        lapse = self._watermark
        flat, lapsed, expired = await asyncio.gather(
            self._call("HGETALL", account_key(customer)),
            self._call("ZRANGEBYSCORE", deadlines_key(customer), "-inf", lapse),
            self._call("ZRANGEBYSCORE", expiries_key(customer), "-inf", now),
        )
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        return account_of(fields, epoch=self._epoch, lapsed={*lapsed, *expired})

    def confirm(self, customer: CustomerId, record: KeyRecord) -> None:
        """See :meth:`entitlements.ports.Ledger.confirm`."""
        keys = [*account_keys(customer), record_key(customer, record.key)]
        self._tell(CONFIRM, keys, [self._epoch or "", record.hold])

    async def reservation(self, customer: CustomerId, reservation: str) -> Reservation | None:
        """See :meth:`entitlements.ports.Ledger.reservation`."""
        epoch, found = await self._filed(customer, reservation)
        if epoch is None or epoch != self._epoch:
            await self._refresh()
            epoch, found = await self._filed(customer, reservation)
            if not self._ready or (epoch is not None and epoch != self._epoch):
                raise LedgerLost("the entitlement ledger is being rebuilt")
        made, expires, request = found
        if made is None:
            return None
        return Reservation(
            id=reservation, made=Micros(int(made)), expires=Micros(int(expires)), request=request
        )

    async def end(self, ending: Ending) -> Verdict:
        """See :meth:`entitlements.ports.Ledger.end`."""
        arguments = end_arguments(ending, lapse=self._watermark)
        reply = await self._decisive(END, end_keys(ending), arguments)
        if reply[0] == "lost":
            return Verdict(status=Status.LOST)
        return _end_verdict(ending, reply)

    def conclude(self, customer: CustomerId, end: End, kept: Mapping[FeatureId, int]) -> None:
        """See :meth:`entitlements.ports.Ledger.conclude`."""
        keys = [*account_keys(customer), reservation_key(customer, end.reservation)]
        arguments: list[str | int] = [self._epoch or "", end.reservation, end.digest]
        for feature, used in kept.items():
            arguments += [feature, pack(used)]
        self._tell(CLOSE, keys, arguments)

    async def close(self) -> None:
        """Disconnect."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
        await self._link.close()

    async def _decisive(
        self, script: Script, keys: list[str], arguments: list[str | int]
    ) -> list[str]:
        """Call a script under the ledger's epoch; look for a new epoch where that one is gone."""
        if not self._link.up:
            raise LedgerUnavailable("the entitlement ledger is not reachable")
        epoch = self._epoch
        if epoch is not None:
            reply: list[str] = await self._script(script, keys, [epoch, *arguments])
            if reply[0] != "lost":
                return reply
        await self._refresh()
        if self._epoch is None or self._epoch == epoch or (epoch is not None and not self._ready):
            return ["lost"]
        return cast("list[str]", await self._script(script, keys, [self._epoch, *arguments]))

    async def _filed(self, customer: CustomerId, reservation: str) -> tuple[str | None, list[Any]]:
        epoch, found = await asyncio.gather(
            self._call("HGET", account_key(customer), "e"),
            self._call("HMGET", reservation_key(customer, reservation), "m", "x", "i"),
        )
        return epoch, found

    def _tell(self, script: Script, keys: list[str], arguments: list[str | int]) -> None:
        self._link.tell("EVALSHA", script.sha, len(keys), *keys, *arguments)

    async def _script(self, script: Script, keys: list[str], arguments: list[str | int]) -> Any:
        try:
            return await self._link.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except Refused as refused:
            if not str(refused).startswith("NOSCRIPT"):
                raise LedgerUnavailable(f"the entitlement ledger refused: {refused}") from refused
        return await self._call("EVAL", script.text, len(keys), *keys, *arguments)

    async def _call(self, *command: str | int, until_s: float | None = None) -> Any:
        try:
            return await self._link.call(*command, until_s=until_s)
        except Refused as refused:
            raise LedgerUnavailable(f"the entitlement ledger refused: {refused}") from refused

    async def _greet(self, link: Link) -> None:
        """Learn which run of the server this is, before any decision uses the connection."""
        self._epoch, self._ready = None, False
        info: str = await link.call("INFO", "server")
        fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        self._run = fields["run_id"]
        for script in SCRIPTS:
            await link.call("SCRIPT", "LOAD", script.text)
        await self._refresh()

    async def _refresh(self, until_s: float | None = None) -> None:
        epoch, ready, mark = await self._call(
            "HMGET", STATE, "epoch", "ready", "watermark", until_s=until_s
        )
        same = epoch is not None and epoch.startswith(self._run + ".")
        self._epoch = epoch if same else None
        self._ready = same and ready == "1"
        self._watermark = watermark_of(mark) if same else Micros(0)

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            if self._link.up:
                try:
                    await self._refresh()
                except LedgerUnavailable:
                    self._ready = False


async def _in_parts(
    ask: Callable[[Sequence[T]], Awaitable[list[Verdict | None]]], asked: Sequence[T]
) -> list[Verdict | None]:
    """Ask for some after the others. Those after one that is not answered have no verdict.

    Raises:
        LedgerUnavailable: the first are not answered.
    """
    told: list[Verdict | None] = []
    for first in range(0, len(asked), PART_MAX):
        try:
            told += await ask(asked[first : first + PART_MAX])
        except LedgerUnavailable:
            if not first:
                raise
            break
    return told + [None] * (len(asked) - len(told))


def _is_gone(reply: Any) -> bool:
    if isinstance(reply, hiredis.ReplyError):
        return str(reply).startswith("NOSCRIPT")
    return bool(reply[0] == "lost")


def _verdict(demand: Demand, reply: list[str]) -> Verdict:
    if reply[0] == "decided":
        return _decided(demand, reply)
    match reply:
        case ["known", hold, at, confirmed, request, balances, lapses]:
            assert demand.hold is not None
            record = KeyRecord(
                key=demand.hold.key,
                hold=hold,
                digest=demand.hold.digest,
                at=Micros(int(at)),
                balances=unpack_balances(balances),
                request=request,
                confirmed=confirmed == "1",
                expires=demand.hold.expires,
                lapses=_score(lapses),
            )
            return Verdict(status=Status.KNOWN, allowed=True, record=record)
        case ["behind", at]:
            return Verdict(status=Status.BEHIND, at=Micros(int(at)))
        case [status]:
            return Verdict(status=Status(status))
    raise AssertionError(f"the script answered {reply!r}")


def _decided(demand: Demand, reply: list[str]) -> Verdict:
    """``reply``: decided, allowed, then per slot whether it passed, what was left, what is."""
    allowed, hold = reply[1] == "1", demand.hold
    passed = tuple([text == "1" for text in reply[2::3]])
    if hold is None or not allowed:
        before = tuple(map(unpack, reply[3::3]))
        return Verdict(status=Status.DECIDED, allowed=allowed, passed=passed, left=before)
    after = tuple(map(unpack, reply[4::3]))
    record = KeyRecord(
        key=hold.key,
        hold=hold.id,
        digest=hold.digest,
        at=demand.now,
        balances=_balances(demand.slots, after),
        request=hold.request,
        expires=hold.expires,
        lapses=demand.lapses,
    )
    return Verdict(status=Status.DECIDED, allowed=True, passed=passed, left=after, record=record)


def _end_verdict(ending: Ending, reply: list[str]) -> Verdict:
    match reply:
        case ["decided", allowed, *rest]:
            passed = tuple(text == "1" for text in rest[::3])
            if allowed != "1":
                left = tuple(map(unpack, rest[1::3]))
                return Verdict(status=Status.DECIDED, passed=passed, left=left)
            left = tuple(map(unpack, rest[2::3]))
            end = End(
                reservation=ending.reservation,
                kind=ending.kind,
                digest=ending.digest,
                at=ending.now,
                balances=_balances(ending.slots, left),
                request=ending.request,
                lapses=ending.lapses,
            )
            return Verdict(status=Status.DECIDED, allowed=True, passed=passed, left=left, end=end)
        case ["known", kind, at, confirmed, request, balances, lapses]:
            known = End(
                reservation=ending.reservation,
                kind=EndKind(kind),
                digest=ending.digest,
                at=Micros(int(at)),
                balances=unpack_balances(balances),
                request=request,
                confirmed=confirmed == "1",
                lapses=_score(lapses),
            )
            return Verdict(status=Status.KNOWN, allowed=True, end=known)
        case ["behind", at]:
            return Verdict(status=Status.BEHIND, at=Micros(int(at)))
        case [status]:
            return Verdict(status=Status(status))
    raise AssertionError(f"the script answered {reply!r}")


def _score(text: str) -> Micros:
    """A sorted set's score, an instant; the beginning of time where there is none."""
    return Micros(int(float(text or 0)))


def _balances(slots: Sequence[Slot], left: Sequence[int]) -> tuple[int | None, ...]:
    pairs = zip(slots, left, strict=True)
    return tuple(None if slot.gate is Gate.UNLIMITED else amount for slot, amount in pairs)
