"""The ledger reader: balances follow the log within milliseconds, and are rebuilt from it.

A change of the catalog that moves usage between accounts or segments (a contract, a claim, a
meter) is answered by computing the touched features again from the log, up to where the reader
stands, and replacing them at once: no delta arithmetic, so nothing can drift.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import polars as pl
import structlog

from api.readers.base import Pace, Reader, Tail, Tails
from api.readers.ledger_rows import ROWS_MAX, RowByRow
from api.readers.ledger_uses import Changes, Hold, Sorted, changes_of, filed_in, uses_of
from api.readers.pages import Gathering
from catalog.clock import SECOND_US, Clock, Micros, to_micros
from catalog.errors import Unavailable
from catalog.events import RecordKind
from catalog.ids import CustomerId, FeatureId, NodeId, Seq
from entitlements.attribution import DELTAS, Attribution, deltas
from entitlements.grants import Schedule
from entitlements.patience import SUBMIT_WITHIN_S
from entitlements.ports import (
    KEPT_US,
    SOURCE,
    AccountUsage,
    End,
    FeatureUsage,
    KeyRecord,
    LedgerLost,
    LedgerWriter,
    PositionOverlap,
    Refill,
    RefillMode,
)
from entitlements.schedules import Schedules
from ingest.extract import extract_facts
from storage.copies.names import is_compensations

log = structlog.get_logger(__name__)

GRACE_S = SUBMIT_WITHIN_S + 0.05
"""A gateway follows a hold by its event sooner than this, or not at all."""

PUBLISH_S = 0.025
HOLD_SPAN_US = 2 * 86_400 * SECOND_US
LEDGER_PACE = Pace(
    poll_s=0.004, gather_s=0.01, backoff_s_min=0.05, backoff_s_max=0.5, rows_max=20_000
)
"""At half load, beside noise: 20 ms gave a median of 23 to 30 ms from ack to balance, 10 ms 16, and
5 ms 20 again, for a page has its own cost (`bench/notes/ingest-balance.md`)."""
FULL_ROWS = 2_000
"""A page so long is not waited for: it costs more than what it has of its own."""

Totals = dict[tuple[CustomerId, FeatureId], dict[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A total that is not what the log says. Nano-units."""

    customer: CustomerId
    feature: FeatureId
    segment: int
    ledger: int
    log: int


@dataclass(slots=True)
class _Replay:
    """What the log says. ``latest`` is the latest instant it knows of.

    Where the clock has stepped back since, a deadline before that has passed all the same, and its
    units may be sold.
    """

    totals: Totals = field(default_factory=dict)
    filed: dict[CustomerId, Sorted] = field(default_factory=lambda: defaultdict(Sorted))
    latest: Micros = Micros(0)


class LedgerReader(Reader):
    """Follows every node's log into the ledger; fills it anew when it is lost."""

    def __init__(
        self,
        *,
        tails: Tails,
        schedules: Callable[[], Schedules],
        writer: LedgerWriter,
        clock: Clock,
        fence: Callable[[], None] = lambda: None,
        grace_s: float = GRACE_S,
    ) -> None:
        """Prepare; nothing is read before the first step.

        Args:
            tails: the logs of all nodes.
            schedules: the current catalog's, the same object while it does not change.
            writer: the ledger.
            clock: the service's.
            fence: returns once everything that live gateways were asked to record before the
                call is durable (heartbeats): called before a rebuild decides how far to read.
            grace_s: pause before that, so that every hold of a lost ledger had its event asked for.
        """
        super().__init__(name="ledger", tails=tails, pace=LEDGER_PACE)
        self._schedules = schedules
        self._writer = writer
        self._clock = clock
        self._fence = fence
        self._grace_s = grace_s
        self._gathering = Gathering(rows=FULL_ROWS, age_s=self.pace.gather_s)
        self._lock = threading.RLock()
        self._attribution: Attribution | None = None
        self._by_row: RowByRow | None = None
        self._digests: dict[CustomerId, dict[FeatureId, str]] = {}
        self._positions: dict[NodeId, Seq] = {}
        self._received: dict[NodeId, Micros] = {}
        self._published_s = 0.0
        self._rebuild = threading.Event()
        self._refilling = False
        self.revision = -1

    def positions(self) -> dict[NodeId, Seq]:
        """The last record applied, by node; none while the ledger is, or is to be, filled anew."""
        return {} if self.rebuilding else dict(self._positions)

    @property
    def rebuilding(self) -> bool:
        """Whether the ledger is, or is to be, filled anew."""
        return self._rebuild.is_set() or self._refilling

    def request_rebuild(self) -> None:
        """Drop the ledger and fill it anew, at the next step."""
        self._rebuild.set()
        self.wake()

    def step(self) -> bool:
        """Follow the catalog and every node's log; rebuild first where the ledger is lost."""
        with self._lock:
            try:
                return self._step()
            except LedgerLost:
                self._begin_anew()
                return True

    def recount(self, customers: Iterable[CustomerId] | None = None) -> list[Difference]:
        """Compare every total with the log, both up to where the reader stands now.

        Raises:
            Unavailable: it is not filled yet.
        """
        with self._lock:
            if self._attribution is None or self._rebuild.is_set():
                raise Unavailable("the ledger is not filled yet")
            chosen = list(self._digests if customers is None else customers)
            counted = self._replay(self._positions, customers=chosen).totals
            found: list[Difference] = []
            for customer, account in zip(chosen, self._writer.accounts(chosen), strict=True):
                kept = dict(account.totals) if account else {}
                features = self._digests.get(customer, {})
                told = {
                    (feature, segment): total
                    for feature in features
                    for segment, total in counted.get((customer, feature), {}).items()
                }
                found += [
                    Difference(
                        customer=customer,
                        feature=feature,
                        segment=segment,
                        ledger=kept.get((feature, segment), 0),
                        log=told.get((feature, segment), 0),
                    )
                    for feature, segment in sorted({*kept, *told})
                    if kept.get((feature, segment), 0) != told.get((feature, segment), 0)
                ]
            return found

    def _begin_anew(self) -> None:
        log.warning("ledger_lost")
        self._refilling, self._positions = True, {}
        asked = self._rebuild.is_set()
        self._rebuild.clear()  # whoever asks from here on is not served by this one
        try:
            self._refill_all()
        except BaseException:
            self._attribution = None  # the next step looks what there is, and begins again
            if asked:
                self._rebuild.set()
            raise
        finally:
            self._refilling = False

    def _step(self) -> bool:
        if self._rebuild.is_set():
            raise LedgerLost("a rebuild was asked for")
        if self._attribution is None:
            self._resume()
        worked = self._follow_catalog()
        for node, tail in self.tails().items():
            worked |= self._follow(node, tail)
        self._publish()
        return worked

    def _resume(self) -> None:
        """Take up a filled ledger where it stands.

        Raises:
            LedgerLost: there is none.
        """
        positions = self._writer.positions()
        if positions is None:
            raise LedgerLost("the ledger is not filled")
        self._positions = positions
        schedules = self._schedules()
        customers = list(_digests(schedules, schedules.catalog.customers))
        accounts = self._writer.accounts(customers)
        self._digests = {
            customer: dict(account.schedules)
            for customer, account in zip(customers, accounts, strict=True)
            if account is not None
        }
        self._refile(schedules)

    def _follow_catalog(self) -> bool:
        schedules = self._schedules()
        assert self._attribution is not None
        if schedules is self._attribution.schedules:
            return False
        self._refile(schedules)
        return True

    def _refile(self, schedules: Schedules) -> None:
        """File anew what the catalog filed otherwise before; nothing else is touched."""
        before = self._attribution
        among = None if before is None else schedules.changed_since(before.schedules)
        if before is None or among is None:
            self._attribution = Attribution(schedules)
            among = frozenset({*schedules.catalog.customers, *self._digests})
        else:
            self._attribution = before.regranted(schedules)
        wanted = _digests(schedules, among)
        try:
            self._file_anew(wanted)
        except BaseException:
            self._attribution = before  # nothing is taken as filed: the next step begins again
            raise
        for customer in among:
            self._digests.pop(customer, None)
        self._digests |= wanted
        self.revision = schedules.catalog.revision

    def _file_anew(self, wanted: Mapping[CustomerId, Mapping[FeatureId, str]]) -> None:
        """Compute from the log what is filed otherwise than wanted, and replace it."""
        changed: dict[CustomerId, list[FeatureId]] = {}
        for customer, features in wanted.items():
            known = self._digests.get(customer, {})
            if features != known:
                named = {*features, *known}
                changed[customer] = [f for f in named if features.get(f) != known.get(f)]
        if not changed:
            return
        replay = self._replay(self._positions, customers=list(changed))
        assert self._attribution is not None
        metered = {c: self._attribution.schedules.metered(c) for c in changed}
        refills = [
            Refill(
                customer=customer,
                features=[
                    self._usage(replay, customer, f, metered[customer].get(f))
                    for f in sorted(features)
                ],
                mode=RefillMode.KEPT if customer in self._digests else RefillMode.NEW,
            )
            for customer, features in changed.items()
        ]
        self._writer.refill(refills, self._positions)

    def _refill_all(self) -> None:
        """Begin a new ledger and fill it from the log, holds that never became events forgotten."""
        self._writer.begin()
        time.sleep(self._grace_s)
        self._fence()
        schedules = self._schedules()
        self._attribution = Attribution(schedules)
        targets = {node: tail.durable().seq for node, tail in self.tails().items()}
        replay = self._replay(targets, customers=None)
        self._digests = _digests(schedules, schedules.catalog.customers)
        now = max(self._clock.now_us(), replay.latest)
        self._writer.refill((self._whole(replay, c, now=now) for c in self._digests), targets)
        self._positions = targets
        self._published_s = 0.0
        self._publish()
        self._writer.finish()
        self.revision = schedules.catalog.revision
        log.info("ledger_rebuilt", accounts=len(self._digests), revision=self.revision)

    def _whole(self, replay: _Replay, customer: CustomerId, *, now: Micros) -> Refill:
        """All that the log says of a customer."""
        assert self._attribution is not None
        metered, filed = self._attribution.schedules.metered(customer), replay.filed[customer]
        return Refill(
            customer=customer,
            features=[self._usage(replay, customer, *named) for named in metered.items()],
            settled=list(filed.settled.values()),
            opened=filed.opened(metered),
            ended=list(filed.ended.values()),
            now=now,
            mode=RefillMode.WIPE,
        )

    def _usage(
        self, replay: _Replay, customer: CustomerId, feature: FeatureId, schedule: Schedule | None
    ) -> FeatureUsage:
        now = self._clock.now_us()
        around = schedule.segments(now - HOLD_SPAN_US, now + 1) if schedule else ()
        return FeatureUsage(
            feature=feature,
            digest=schedule.digest if schedule else "",
            totals=replay.totals.get((customer, feature), {}),
            starts=[segment.start for segment in around],
        )

    def _replay(
        self, upto: Mapping[NodeId, Seq], *, customers: Sequence[CustomerId] | None
    ) -> _Replay:
        """Read the logs from record 1 up to ``upto``, for some customers or (null) for all."""
        attribution, replay = self._attribution, _Replay()
        assert attribution is not None
        sums = DELTAS.to_frame()
        since = self._clock.now_us() - KEPT_US
        tails = self.tails()
        for node, tail in tails.items():
            last, seq = upto.get(node, Seq(0)), 0
            while seq < last:
                records = tail.read_after(Seq(seq), rows_max=50_000)
                seq = records["seq"][-1]
                records = _of_interest(
                    records.filter(pl.col("seq") <= last), attribution, customers
                )
                facts = extract_facts(records, attribution.specs, node=node)
                uses = uses_of(records, facts, tails, attribution=attribution, node=node)
                if customers is not None:
                    uses = uses.filter(pl.col("customer").is_in(customers))
                sums = _summed(pl.concat([sums, deltas(uses)]))
                replay.latest = max([replay.latest, *_latest(records)])
                for filed in filed_in(records):
                    if _remembered(filed.what, since):
                        replay.filed[filed.customer].add(filed.what)
        for customer, feature, segment, nanos in sums.iter_rows():
            replay.totals.setdefault((customer, feature), {})[segment] = nanos
        return replay

    def _follow(self, node: NodeId, tail: Tail) -> bool:
        """Apply the next stretch of one node's log."""
        after = self._positions.get(node, Seq(0))
        durable = tail.durable()
        if durable.seq <= after:
            self._received[node] = durable.received_at
            return False
        if not self._gathering.is_due(node, waiting=durable.seq - after):
            return False
        records = tail.read_after(after, rows_max=self.pace.rows_max)
        self._gathering.taken(node)
        self._apply(records, node, after=after)
        self._positions[node] = Seq(records["seq"][-1])
        self._received[node] = to_micros(records["received_at"][-1])
        return True

    def _apply(self, records: pl.DataFrame, node: NodeId, *, after: Seq) -> None:
        upto = Seq(records["seq"][-1])
        usages = self._usages(self._changes(records, node))
        try:
            self._writer.apply(usages, node=node, after=after, upto=upto)
        except PositionOverlap:
            # An earlier attempt, or the process before this one, cut the log elsewhere.
            places = self._writer.applied([usage.customer for usage in usages], node)
            for place in {seq for seq in places.values() if after < seq < upto}:
                behind = [customer for customer, seq in places.items() if seq == place]
                rest = self._in_columns(records.filter(pl.col("seq") > place), node).of(behind)
                self._writer.apply(self._usages(rest), node=node, after=place, upto=upto)

    def _changes(self, records: pl.DataFrame, node: NodeId) -> Changes:
        """What a page changes: row by row where it is short, else in columns."""
        assert self._attribution is not None
        if self._by_row is None or self._by_row.attribution is not self._attribution:
            self._by_row = RowByRow(self._attribution)
        short = records.height <= ROWS_MAX and not is_compensations(node)
        found = self._by_row.changes(records) if short else None
        return self._in_columns(records, node) if found is None else found

    def _in_columns(self, records: pl.DataFrame, node: NodeId) -> Changes:
        assert self._attribution is not None
        return changes_of(records, self.tails(), attribution=self._attribution, node=node)

    def _usages(self, found: Changes) -> list[AccountUsage]:
        assert self._attribution is not None
        changes = found.deltas
        told: dict[CustomerId, Sorted] = defaultdict(Sorted)
        for one in found.filed:
            if one.customer in self._digests:
                told[one.customer].add(one.what)
        schedules, now = self._attribution.schedules, self._clock.now_us()
        return [
            AccountUsage(
                customer=customer,
                deltas=changes.get(customer, ()),
                settled=list(told[customer].settled.values()),
                opened=told[customer].opened(schedules.metered(customer)),
                ended=list(told[customer].ended.values()),
                now=now,
            )
            if customer in told
            else AccountUsage(customer=customer, deltas=changes[customer], now=now)
            for customer in {**changes, **told}
        ]

    def _publish(self) -> None:
        now_s = time.monotonic()
        if now_s - self._published_s < PUBLISH_S:
            return
        received = [self._received.get(node, Micros(0)) for node in self.tails()]
        self._writer.publish(self._positions, watermark=min(received, default=Micros(0)))
        self._published_s = now_s


def _digests(
    schedules: Schedules, customers: Iterable[CustomerId]
) -> dict[CustomerId, dict[FeatureId, str]]:
    """How customers' metered features are filed under a catalog."""
    found = {}
    for customer in customers:
        metered = schedules.metered(customer)
        if metered:
            found[customer] = {feature: s.digest for feature, s in metered.items()}
    return found


def _of_interest(
    records: pl.DataFrame, attribution: Attribution, customers: Sequence[CustomerId] | None
) -> pl.DataFrame:
    """Drop events of subjects that none of the customers ever claims. Cheaper than extracting."""
    if customers is None:
        return records
    subjects = attribution.subjects(customers)
    return records.filter(
        pl.col("subject").is_in(subjects) | pl.col("kind").ne(RecordKind.EVENT.value)
    )


def _latest(records: pl.DataFrame) -> list[Micros]:
    """When the last record was received, and when the last decision in it was made."""
    if records.is_empty():
        return []
    decided = records.filter(pl.col("source") == SOURCE)["time"].max()
    found = [to_micros(records["received_at"][-1])]
    return found if decided is None else [*found, to_micros(cast("datetime", decided))]


def _summed(sums: pl.DataFrame) -> pl.DataFrame:
    return sums.group_by("customer", "feature", "segment").agg(pl.col("nanos").sum())


def _remembered(what: KeyRecord | Hold | End, since: int) -> bool:
    """Whether it still matters: a key a day long, a reservation a day beyond its deadline."""
    if isinstance(what, Hold):
        return (what.record.expires or what.record.at) > since
    if isinstance(what, End):  # its reservation may be open a day longer, had it not ended
        return what.at > since - KEPT_US
    return what.at > since
