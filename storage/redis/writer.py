"""The ledger as its reader fills it. Every account change is one script call, pipelined."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from catalog.clock import Micros
from catalog.ids import CustomerId, NodeId, Seq
from entitlements.ports import (
    Account,
    AccountUsage,
    FeatureUsage,
    LedgerLost,
    LedgerUnavailable,
    PositionOverlap,
    Refill,
)
from storage.redis.bulk import answers, conversation, spelled
from storage.redis.scripts import (
    APPLY,
    KEY_LIFETIME_MS,
    REFILL,
    STATE,
    Script,
    account_key,
    account_of,
    pack,
    records_arguments,
    records_keys,
)

PIPELINED_MAX = 1_000
_EPOCH, _SERVER = spelled("HGET", STATE, "epoch"), spelled("INFO", "server")
TIMEOUT_S = 5.0

Arguments = list[str | int]


class RedisLedgerWriter:
    """Implements :class:`entitlements.ports.LedgerWriter` on one Redis or Valkey server."""

    def __init__(self, url: str) -> None:
        """Connect lazily to ``url`` (``unix://…`` or ``redis://…``)."""
        # Nothing is sent twice behind our back: an answer that was lost is looked up instead.
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        )
        self._epoch = ""

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def positions(self) -> dict[NodeId, Seq] | None:
        """See :meth:`entitlements.ports.LedgerWriter.positions`."""
        fields = self._do(lambda: self._client.hgetall(STATE))
        epoch = fields.get("epoch", "")
        if fields.get("ready") != "1" or not epoch.startswith(self._run() + "."):
            return None
        self._epoch = epoch
        return {NodeId(name[2:]): Seq(int(seq)) for name, seq in fields.items() if name[:2] == "p:"}

    def begin(self) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.begin`."""
        self._epoch = f"{self._run()}.{secrets.token_hex(6)}"
        pipeline = self._client.pipeline(transaction=True)
        pipeline.delete(STATE)
        pipeline.hset(STATE, mapping={"epoch": self._epoch, "ready": "0"})
        for script in (APPLY, REFILL):
            pipeline.script_load(script.text)
        self._do(pipeline.execute)

    def finish(self) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.finish`."""
        self._owned()
        self._do(lambda: self._client.hset(STATE, "ready", "1"))

    def refill(self, refills: Iterable[Refill], positions: Mapping[NodeId, Seq]) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.refill`."""
        self._owned()
        self._run_all(REFILL, (_refill_call(self._epoch, one, positions) for one in refills))

    def apply(self, usages: Sequence[AccountUsage], *, node: NodeId, after: Seq, upto: Seq) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.apply`."""
        head: Arguments = [self._epoch, node, after, upto, KEY_LIFETIME_MS]
        self._run_all(APPLY, (_apply_call(head, usage) for usage in usages))

    def applied(self, customers: Sequence[CustomerId], node: NodeId) -> dict[CustomerId, Seq]:
        """See :meth:`entitlements.ports.LedgerWriter.applied`."""
        pipeline = self._client.pipeline(transaction=False)
        for customer in customers:
            pipeline.hget(account_key(customer), f"p:{node}")
        found = self._do(pipeline.execute)
        return {
            customer: Seq(int(seq or 0)) for customer, seq in zip(customers, found, strict=True)
        }

    def publish(self, positions: Mapping[NodeId, Seq], *, watermark: Micros) -> None:
        """See :meth:`entitlements.ports.LedgerWriter.publish`."""
        self._owned()
        fields: dict[Any, Any] = {f"p:{node}": seq for node, seq in positions.items()}
        self._do(lambda: self._client.hset(STATE, mapping=fields | {"watermark": watermark}))

    def accounts(self, customers: Sequence[CustomerId]) -> list[Account | None]:
        """See :meth:`entitlements.ports.LedgerWriter.accounts`."""
        pipeline = self._client.pipeline(transaction=False)
        for customer in customers:
            pipeline.hgetall(account_key(customer))
        return [account_of(fields, epoch=self._epoch) for fields in self._do(pipeline.execute)]

    def _owned(self) -> None:
        """Make sure that this is still the ledger that was begun, and the same server.

        Raises:
            LedgerLost: it was flushed or restarted, or another writer began.
        """
        epoch, server = self._answers([_EPOCH, _SERVER])
        if epoch != self._epoch or f"\r\nrun_id:{epoch.partition('.')[0]}\r\n" not in server:
            raise LedgerLost("the ledger was flushed or replaced")

    def _run(self) -> str:
        info = cast("dict[str, Any]", self._do(lambda: self._client.info("server")))
        return str(info["run_id"])

    def _run_all(self, script: Script, calls: Iterable[tuple[list[str], Arguments]]) -> None:
        overlap = False
        with closing(conversation(self._client, _batches(script, calls))) as answered:
            while (replies := self._do(lambda: next(answered, None))) is not None:
                if "lost" in _accepted(replies):
                    raise LedgerLost("an account was flushed or replaced")
                overlap = overlap or "overlap" in replies
        if overlap:
            raise PositionOverlap("an account has applied a part of these records")

    def _answers(self, commands: Sequence[bytes]) -> list[Any]:
        return _accepted(self._do(lambda: answers(self._client, commands)))

    def _do(self, call: Any) -> Any:
        try:
            return call()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise LedgerUnavailable(f"the entitlement ledger: {error}") from error


def _accepted(replies: list[Any]) -> list[Any]:
    """The same replies, where none is a refusal."""
    for reply in replies:
        if isinstance(reply, redis.ResponseError):
            raise reply
    return replies


def _batches(
    script: Script, calls: Iterable[tuple[list[str], Arguments]]
) -> Iterator[Sequence[bytes]]:
    """The script itself, then calls of it: a server that was flushed does not know it."""
    loading = spelled("SCRIPT", "LOAD", script.text)
    commands = (_spelled(script, keys, arguments) for keys, arguments in calls)
    while some := list(islice(commands, PIPELINED_MAX)):
        yield [loading, *some]


def _spelled(script: Script, keys: list[str], arguments: Arguments) -> bytes:
    return spelled("EVALSHA", script.sha, len(keys), *keys, *arguments)


def _apply_call(head: Arguments, usage: AccountUsage) -> tuple[list[str], Arguments]:
    arguments = [*head, usage.now, len(usage.deltas)]
    for feature, segment, change in usage.deltas:
        arguments += [feature, segment, pack(change)]
    return records_keys(usage), arguments + records_arguments(usage)


def _refill_call(
    epoch: str, refill: Refill, positions: Mapping[NodeId, Seq]
) -> tuple[list[str], Arguments]:
    arguments: Arguments = [epoch, refill.mode.value, KEY_LIFETIME_MS, refill.now]
    arguments += [secrets.randbits(45), len(positions)]
    for node, seq in positions.items():
        arguments += [node, seq]
    arguments.append(len(refill.features))
    for feature in refill.features:
        arguments += _feature_arguments(feature)
    return records_keys(refill), arguments + records_arguments(refill)


def _feature_arguments(feature: FeatureUsage) -> Arguments:
    arguments: Arguments = [feature.feature, feature.digest, len(feature.starts), *feature.starts]
    totals = {segment: total for segment, total in feature.totals.items() if total}
    arguments.append(len(totals))
    for segment, total in totals.items():
        arguments += [segment, pack(total)]
    return arguments
