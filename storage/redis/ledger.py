"""The ledger as the gateway uses it: one script call a decision, all of them pipelined."""

from __future__ import annotations

import asyncio
from typing import Any

from catalog.clock import Micros
from catalog.ids import CustomerId
from entitlements.ports import (
    HOLD_US,
    KEPT_US,
    Account,
    Demand,
    KeyRecord,
    LedgerUnavailable,
    Status,
    Verdict,
)
from storage.redis.link import Address, Link, Refused
from storage.redis.scripts import (
    CONFIRM,
    DECIDE,
    KEY_LIFETIME_MS,
    SCRIPTS,
    STATE,
    Script,
    account_key,
    account_of,
    deadlines_key,
    pack,
    record_key,
    unpack,
    unpack_balances,
    watermark_of,
)

POLL_S = 0.05
TIMEOUT_S = 0.045
"""A decision is answered within 50 ms, with or without Redis."""


class RedisLedger:
    """Implements :class:`entitlements.ports.Ledger` on one Redis or Valkey server.

    The ledger's epoch names the server's run: a server that was restarted, even from a snapshot,
    is another one. It is compared on every new connection, and every account carries it.
    """

    def __init__(self, address: Address, *, timeout_s: float = TIMEOUT_S) -> None:
        self._link = Link(address, greet=self._greet, timeout_s=timeout_s)
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

    async def close(self) -> None:
        """Disconnect."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
        await self._link.close()

    async def decide(self, demand: Demand) -> Verdict:
        """See :meth:`entitlements.ports.Ledger.decide`."""
        reply = await self._decide(demand)
        if reply[0] == "lost":
            epoch = self._epoch
            await self._refresh()
            if self._ready and self._epoch != epoch:
                reply = await self._decide(demand)
        if reply[0] == "lost":
            return Verdict(status=Status.UNSEEDED if self._ready else Status.LOST)
        return _verdict(demand, reply)

    async def account(self, customer: CustomerId) -> Account | None:
        """See :meth:`entitlements.ports.Ledger.account`."""
        flat, lapsed = await asyncio.gather(
            self._call("HGETALL", account_key(customer)),
            self._call("ZRANGEBYSCORE", deadlines_key(customer), "-inf", self._watermark),
        )
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        return account_of(fields, epoch=self._epoch, lapsed=lapsed)

    def confirm(self, customer: CustomerId, record: KeyRecord) -> None:
        """See :meth:`entitlements.ports.Ledger.confirm`."""
        keys = account_key(customer), deadlines_key(customer), record_key(customer, record.key)
        sent = self._link.call("EVALSHA", CONFIRM.sha, 3, *keys, self._epoch or "", record.hold)
        sent.add_done_callback(_heeded)

    async def _decide(self, demand: Demand) -> list[str]:
        if not self._link.up:
            raise LedgerUnavailable("the entitlement ledger is not reachable")
        if self._epoch is None:
            await self._refresh()
        if self._epoch is None:
            return ["lost"]
        keys = [account_key(demand.customer), deadlines_key(demand.customer)]
        hold = demand.hold
        if hold is not None:
            keys.append(record_key(demand.customer, hold.key))
        lapse = min(demand.now, self._watermark)
        arguments: list[str | int] = [self._epoch, demand.now, lapse]
        arguments += [hold.id if hold else "", int(demand.refused), hold.digest if hold else ""]
        arguments += [demand.now + HOLD_US, KEY_LIFETIME_MS, KEPT_US, hold.request if hold else ""]
        for slot in demand.slots:
            version = "" if slot.version is None else slot.version
            arguments += [slot.feature, slot.schedule, slot.segment, slot.gate.value]
            arguments += [pack(slot.opening), version, pack(slot.amount)]
        reply: list[str] = await self._script(DECIDE, keys, arguments)
        return reply

    async def _script(self, script: Script, keys: list[str], arguments: list[str | int]) -> Any:
        try:
            return await self._link.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except Refused as refused:
            if not str(refused).startswith("NOSCRIPT"):
                raise LedgerUnavailable(f"the entitlement ledger refused: {refused}") from refused
        return await self._call("EVAL", script.text, len(keys), *keys, *arguments)

    async def _call(self, *command: str | int) -> Any:
        try:
            return await self._link.call(*command)
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

    async def _refresh(self) -> None:
        epoch, ready, mark = await self._call("HMGET", STATE, "epoch", "ready", "watermark")
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


def _heeded(sent: asyncio.Future[Any]) -> None:
    """A confirmation may be lost: the reader settles the hold all the same."""
    if not sent.cancelled():
        sent.exception()


def _verdict(demand: Demand, reply: list[str]) -> Verdict:
    match reply:
        case ["decided", allowed, *rest]:
            return _decided(demand, allowed == "1", rest)
        case ["known", hold, at, confirmed, request, balances]:
            assert demand.hold is not None
            record = KeyRecord(
                key=demand.hold.key,
                hold=hold,
                digest=demand.hold.digest,
                at=Micros(int(at)),
                balances=unpack_balances(balances),
                request=request,
                confirmed=confirmed == "1",
            )
            return Verdict(status=Status.KNOWN, allowed=True, record=record)
        case [status]:
            return Verdict(status=Status(status))
    raise AssertionError(f"the script answered {reply!r}")


def _decided(demand: Demand, allowed: bool, rest: list[str]) -> Verdict:  # noqa: FBT001
    passed = tuple(text == "1" for text in rest[::3])
    before = tuple(map(unpack, rest[1::3]))
    after = tuple(map(unpack, rest[2::3]))
    if demand.hold is None or not allowed:
        return Verdict(status=Status.DECIDED, allowed=allowed, passed=passed, left=before)
    balances = tuple(
        None if slot.gate == "unlimited" else left
        for slot, left in zip(demand.slots, after, strict=True)
    )
    record = KeyRecord(
        key=demand.hold.key,
        hold=demand.hold.id,
        digest=demand.hold.digest,
        at=demand.now,
        balances=balances,
        request=demand.hold.request,
    )
    return Verdict(status=Status.DECIDED, allowed=True, passed=passed, left=after, record=record)
