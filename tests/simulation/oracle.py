"""What must be true, kept in plain dictionaries beside the world and independent of its code.

It knows what clients sent and were told, and it reads what the logs show and the store holds after
every step. Every attempt writes its number into the white space of ``data``, so that each record
names the attempt it came from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from catalog.clock import Micros, to_micros
from catalog.events import RecordKind
from ingest.group import Outcome
from tests.unit.readers.copies_world import out_by_hand

Identity = tuple[str, str]


class Violation(AssertionError):
    """A promise was broken."""


def require(holds: object, what: str) -> None:
    """Raise :class:`Violation` unless it holds."""
    if not holds:
        raise Violation(what)


@dataclass(frozen=True, slots=True)
class Sent:
    """One event as a client put it into a body. ``valid`` false: it must be refused."""

    identity: Identity
    value: int
    data: str
    valid: bool = True


@dataclass(slots=True, eq=False)
class Attempt:
    """A body on its way. ``state``: waiting, answered, refused (nothing kept) or unknown."""

    number: int
    node: str
    events: list[Sent]
    atomic: bool = False
    dry_run: bool = False
    state: str = "waiting"
    sent_at: int = 0
    known: dict[Identity, int] = field(default_factory=dict)
    beside: set[Identity] = field(default_factory=set)

    @property
    def identities(self) -> set[Identity]:
        """The distinct events that may be accepted."""
        return {event.identity for event in self.events if event.valid}


@dataclass(slots=True, eq=False)
class VoidAttempt:
    """Identities to void."""

    node: str
    identities: list[Identity]
    state: str = "waiting"


@dataclass(slots=True)
class NodeView:
    """What one node's log has shown to a reader so far, and must show for ever."""

    records: list[dict[str, Any]] = field(default_factory=list)
    latest: dict[Identity, dict[str, Any]] = field(default_factory=dict)
    voids: set[int] = field(default_factory=set)
    made: Counter[int] = field(default_factory=Counter)
    in_store: int = 0


class Oracle:
    """The client's ledger, the logs as they were read, and the comparisons."""

    def __init__(
        self, nodes: Iterable[str], *, window_us: int, summed: str, seen: Counter[str]
    ) -> None:
        self.window_us = window_us
        self.summed = summed
        self.seen = seen
        self.nodes = {node: NodeView() for node in nodes}
        self.attempts: list[Attempt] = []
        self.voids: list[VoidAttempt] = []
        self.texts: dict[tuple[str, Identity, str], list[Attempt]] = defaultdict(list)
        self.acknowledged: dict[str, set[Identity]] = {node: set() for node in nodes}
        self.accepts: Counter[int] = Counter()
        self.checked: Counter[str] = Counter()
        self.stored: dict[str, Counter[tuple[str, int, str]]] = defaultdict(Counter)

    # -- what clients do -------------------------------------------------------------------

    def sends(self, attempt: Attempt, now: Micros) -> None:
        """A body goes out: what it must come to is known but for the bodies beside it."""
        view = self.nodes[attempt.node]
        for other in self._waiting(attempt.node):
            other.beside |= attempt.identities
            attempt.beside |= other.identities
        attempt.known = {
            identity: view.latest[identity]["received_us"]
            for identity in attempt.identities
            if identity in view.latest
        }
        attempt.sent_at = self._now(view, now)
        self.attempts.append(attempt)
        for event in attempt.events:
            if event.valid:
                self.texts[attempt.node, event.identity, event.data].append(attempt)

    def _waiting(self, node: str) -> list[Attempt]:
        return [a for a in self.attempts if a.node == node and a.state == "waiting"]

    @staticmethod
    def _now(view: NodeView, now: int) -> int:
        """The time as the log has it: it does not step back."""
        return max(now, view.records[-1]["received_us"] if view.records else 0)

    def _expected(self, attempt: Attempt, now: int) -> tuple[int, int]:
        """The fewest and the most events that may be accepted."""
        now = max(attempt.sent_at, self._now(self.nodes[attempt.node], now))
        known = attempt.known
        surely_known = {i for i, at in known.items() if now - at <= self.window_us}
        surely_new = attempt.identities - set(known) - attempt.beside
        return len(surely_new), len(attempt.identities - surely_known)

    def answered(self, attempt: Attempt, outcome: Outcome, now: int) -> None:
        """A body was answered: compare the answer with what was sent and with the log."""
        attempt.state = "answered"
        rejected = {rejection.index: rejection.code.value for rejection in outcome.rejected}
        total = outcome.accepted + outcome.duplicates + len(rejected)
        self.checked["answers: accepted + duplicates + rejected = sent, as many as expected"] += 1
        require(total == len(attempt.events), f"{total} answers to {len(attempt.events)} events")
        require(len(rejected) == len(outcome.rejected), "an index was rejected twice")
        require(not (attempt.atomic and rejected), "an atomic body was kept in part")
        least, most = self._expected(attempt, now)
        require(
            least <= outcome.accepted <= most, f"{outcome.accepted} accepted, not {least}..{most}"
        )
        for index, event in enumerate(attempt.events):
            require(event.valid or index in rejected, f"{event} was not refused")
            require(not event.valid or rejected.get(index) in {None, "conflict"}, f"{event}")
        if attempt.dry_run:
            require(not self.nodes[attempt.node].made[attempt.number], "a dry run was kept")
            return
        self._check_contents(attempt, rejected)
        self._check_made(attempt, outcome.accepted)

    def _check_contents(self, attempt: Attempt, rejected: dict[int, str]) -> None:
        view = self.nodes[attempt.node]
        for index, event in enumerate(attempt.events):
            if not event.valid:
                continue
            self.checked["acknowledged events: durable, and with this content"] += 1
            record = view.latest.get(event.identity)
            require(record, f"{event.identity} was acknowledged and is not in the log")
            assert record is not None
            same = record["value"] == event.value
            require(
                same == (index not in rejected),
                f"{event.identity} says {event.value}, the log {record['value']}: "
                f"{'conflict' if index in rejected else 'no conflict'}",
            )
            self.seen["conflict"] += not same
            if same:
                self.acknowledged[attempt.node].add(event.identity)

    def _check_made(self, attempt: Attempt, accepted: int) -> None:
        """Accepted is what the log has of this body (of all bodies that were the same)."""
        made = self.nodes[attempt.node].made[attempt.number]
        self.accepts[attempt.number] += accepted
        alike = [other for other in self.attempts if other.number == attempt.number]
        told = self.accepts[attempt.number]
        settled = all(other.state in {"answered", "refused"} for other in alike)
        require(
            told == made if settled else told <= made,
            f"body {attempt.number}: {told} accepted, {made} in the log",
        )
        if len(alike) > 1 and told < made:
            self.seen["retry after lost answer"] += 1

    def refused(self, attempt: Attempt) -> None:
        """Nothing of the body was kept, and the sender was told so."""
        attempt.state = "refused"
        self._check_made(attempt, 0)

    def unknown(self, attempt: Attempt | VoidAttempt) -> None:
        """The sender got no answer."""
        attempt.state = "unknown"

    # -- what the logs show ----------------------------------------------------------------

    def reads(self, node: str, rows: Iterable[dict[str, Any]]) -> None:
        """Records that became visible: each is the next, was sent, and is the only one."""
        for row in rows:
            self._read(node, self.nodes[node], row)

    def _read(self, node: str, view: NodeView, row: dict[str, Any]) -> None:
        received = to_micros(row["received_at"])
        row["received_us"] = received
        before = view.records[-1] if view.records else {"seq": 0, "received_us": 0}
        require(row["seq"] == before["seq"] + 1, f"{node}: {row['seq']} after {before['seq']}")
        require(received > before["received_us"], f"{node}: {row['seq']} was received before")
        if view.records and before["received_at"].month != row["received_at"].month:
            self.seen["a month ended in a log"] += 1
        view.records.append(row)
        self.checked["log records: in order, sent by somebody, counted once"] += 1
        if row["kind"] == RecordKind.EVENT:
            self._read_event(node, view, row, received)
        elif row["kind"] == RecordKind.VOID:
            self._read_void(node, view, row)

    def _read_event(self, node: str, view: NodeView, row: dict[str, Any], received: int) -> None:
        identity = row["source"], row["id"]
        attempts = self.texts.get((node, identity, row["data"]), ())
        kept = [attempt for attempt in attempts if not attempt.dry_run]
        require(kept, f"{node}: record {row['seq']} {identity} {row['data']!r} was never sent")
        earlier = view.latest.get(identity)
        if earlier is not None:
            apart = received - earlier["received_us"]
            require(
                apart > self.window_us,
                f"{node}: {identity} counted at {earlier['seq']} and at {row['seq']}",
            )
            self.seen["identity came back after the window"] += 1
        event = next(e for e in kept[0].events if (e.identity, e.data) == (identity, row["data"]))
        row["value"] = event.value
        view.made[kept[0].number] += 1
        require(
            any(attempt.state != "refused" for attempt in kept),
            f"{node}: {identity} was refused and is in the log",
        )
        view.latest[identity] = row

    def _read_void(self, node: str, view: NodeView, row: dict[str, Any]) -> None:
        identity = row["source"], row["id"]
        target = view.records[row["target"] - 1]
        require((target["source"], target["id"]) == identity, f"{node}: {identity} voided another")
        asked = any(v.node == node and identity in v.identities for v in self.voids)
        require(asked, f"{node}: nobody asked to void {identity}")
        require(row["target"] not in view.voids, f"{node}: {identity} was voided twice")
        view.voids.add(row["target"])

    def void_answered(self, attempt: VoidAttempt, told: tuple[int, int, list[Identity]]) -> None:
        """Voids were answered: what was told to be void is, and nothing known was unknown."""
        self.checked["void answers: what was told is in the log"] += 1
        attempt.state = "answered"
        voided, already, unknown = told
        view = self.nodes[attempt.node]
        require(voided + already + len(unknown) == len(attempt.identities), "voids do not add up")
        for identity in attempt.identities:
            record = view.latest.get(identity)
            if identity in unknown:
                continue
            require(record and record["seq"] in view.voids, f"{identity} was told to be void")

    # -- what the store holds --------------------------------------------------------------

    def stores(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Rows that arrived: each once, and of a record that the log shows."""
        for row in rows:
            node, seq = row["node"], row["seq"]
            self.checked["stored rows: once, and as in the log"] += 1
            key = node, seq, row.get("spec") or ""
            require(not self.stored[table][key], f"{table} counts {key} twice")
            self.stored[table][key] += 1
            if node not in self.nodes:  # the readers' own: compared when all has come to rest
                require(table == "voids", f"{key} is in {table}")
                out = row["target_node"], row["target_seq"], row["cause"]
                require(not self.stored["out"][out], f"{out} was put out twice")
                self.stored["out"][out] += 1
                continue
            records = self.nodes[node].records
            require(seq <= len(records), f"{table} holds {key}, which the log does not")
            record = records[seq - 1]
            if table == "events":
                same = (record["source"], record["id"], record["data"])
                require((row["source"], row["id"], row["data"]) == same, f"{key} was changed")
            elif table == "facts":
                worth = record.get("value") if row["spec"] == self.summed else None
                require(row["value"] == worth, f"{key} is worth {row['value']}, not {worth}")
            else:
                require(row["target_seq"] == record["target"], f"{key} voids another")

    def positioned(self, node: str, position: int, specs: Iterable[str]) -> None:
        """A reader says that it is at ``position``: all up to there must be in the store."""
        if node not in self.nodes:
            return
        view, specs = self.nodes[node], list(specs)
        self.checked["positions: nothing before them is missing in the store"] += 1
        require(position <= len(view.records), f"{node}: at {position}, beyond the log")
        for record in view.records[:position]:
            seq = record["seq"]
            if record["kind"] == RecordKind.EVENT:
                require(self.stored["events"][node, seq, ""], f"{node}: {seq} was skipped")
                for spec in specs:
                    require(self.stored["facts"][node, seq, spec], f"{node}: fact {seq} skipped")
            elif record["kind"] == RecordKind.VOID:
                require(self.stored["voids"][node, seq, ""], f"{node}: void {seq} was skipped")

    # -- at all times ----------------------------------------------------------------------

    def conserve(self) -> None:
        """Of every event sent it is known what became of it, and the log holds no other."""
        self.checked["steps: nothing acknowledged is lost, nothing is invented"] += 1
        for node, view in self.nodes.items():
            numbers = {a.number for a in self.attempts if a.node == node and not a.dry_run}
            require(set(view.made) <= numbers, f"{node}: events of nobody")
            for identity in self.acknowledged[node]:
                require(identity in view.latest, f"{node}: {identity} is lost")

    def records(self) -> list[dict[str, Any]]:
        """What all logs hold, in order of receipt."""
        rows = [row | {"node": node} for node, view in self.nodes.items() for row in view.records]
        return sorted(rows, key=lambda row: (row["received_us"], row["node"], row["seq"]))

    def worth(self, *, copies: bool) -> int:
        """The sum of what counts; with ``copies`` they are looked for, else each log is by itself.

        The rule as one would say it, by comparing everything with everything.
        """
        rows = self.records()
        out = {(row["node"], row["target"]) for row in rows if row["kind"] == RecordKind.VOID}
        if copies:
            collapsed, void = out_by_hand(rows, window_us=self.window_us)
            self.seen["copy collapsed"] += len(collapsed)
            out = collapsed | void
        events = [row for row in rows if row["kind"] == RecordKind.EVENT]
        return sum(row["value"] for row in events if (row["node"], row["seq"]) not in out)
