"""Changing the catalog: read what was sent, plan it on the catalog as it stands, state it.

Every edit is optimistic: planned on one revision and appended only while that is still the last,
so two edits that would contradict each other can never both be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from api.models.catalog import ApplyRequest
from catalog.changes import Plan, Unsupported, plan, plan_retirement, supported
from catalog.clock import Clock, Micros, to_rfc3339
from catalog.errors import Conflict, FieldError, NotFound
from catalog.grammar import (
    Document,
    InvalidDocument,
    Value,
    parse_document,
    parse_object,
    render_version,
)
from catalog.history import chains_of
from catalog.ids import ContractId, Kind
from catalog.snapshot import Catalog, Version
from storage.sql.statements import NEVER, RevisionChanged, StatementStore

ATTEMPTS_MAX = 5
DOCUMENT_POINTER = "/document"

LinesToRerate = Callable[[Catalog, Catalog], int]
"""How many open lines would differ between two catalogs."""

Noted = Callable[[Catalog, Collection[ContractId]], Iterable[str]]
"""What to warn of about some contracts of a catalog."""


class InUse(Conflict):
    """Something in force still names the object that is to be retired."""

    code = "in_use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """What became of one object that was put."""

    created: bool
    view: dict[str, object]


class Editor:
    """The three ways to change the catalog. Thread-safe; every call blocks on SQL.

    Args:
        store: where statements are kept.
        clock: tells what is over, and so may be named no more.
        unsupported: what the engines cannot do about a price or contract.
        lines_to_rerate: counts what an applied document re-rates; None leaves the count out.
        answered: the largest ``as_of`` already answered; edits are recorded later than it.
        noted: what to warn of about contracts that were stated.
    """

    def __init__(
        self,
        store: StatementStore,
        *,
        clock: Clock,
        unsupported: Unsupported = supported,
        lines_to_rerate: LinesToRerate | None = None,
        answered: Callable[[], Micros] | None = None,
        noted: Noted | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._unsupported = unsupported
        self._lines_to_rerate = lines_to_rerate
        self._answered = answered
        self._noted = noted

    def put(self, kind: Kind, id: str, tree: object, *, actor: str | None) -> Put:  # noqa: A002
        """State one object; pointers of mistakes are relative to ``tree``.

        Raises:
            InvalidDocument: it cannot be read, or does not fit the others.
        """
        document = Document(objects=(parse_object(kind, id, tree),))
        stated = self._state(lambda catalog: self._plan(catalog, document), actor=actor)
        (change,) = stated.plan.changes
        chain = chains_of(self._store.current(), kind).get(id)
        if chain is None:  # gone again before it ever came into force
            raise NotFound(f"{kind.value} {id} was retired meanwhile")
        mine = [each for each in chain.versions if each.revision == stated.revision]
        view = version_view(kind, mine[-1] if mine else chain.versions[-1])
        return Put(created=change.action == "create", view=view)

    def retire(self, kind: Kind, id: str, *, actor: str | None) -> None:  # noqa: A002
        """End one object now.

        Raises:
            NotFound: there is none in force.
            InUse: something in force names it; ``errors`` says what.
        """
        try:
            self._state(
                lambda catalog: plan_retirement(catalog, kind, id, now=self._now(catalog)),
                actor=actor,
            )
        except InvalidDocument as error:
            named = f"{kind.value} {id} is still named: {error.detail}"
            raise InUse(named, errors=error.errors) from error

    def apply(self, request: ApplyRequest, *, actor: str | None) -> dict[str, Any]:
        """Apply a document as one, or with ``dry_run`` say what that would do.

        Raises:
            InvalidDocument: nothing was changed; pointers begin with ``/document``.
            RevisionChanged: the catalog is not at ``expected_revision``.
        """
        try:
            document = parse_document(request.document)
            stated = self._state(
                lambda catalog: self._plan(catalog, document, prune=request.prune),
                actor=actor,
                expected=request.expected_revision,
                keep=not request.dry_run,
            )
        except InvalidDocument as error:
            errors = [
                FieldError(pointer=DOCUMENT_POINTER + each.pointer, detail=each.detail)
                for each in error.errors
            ]
            raise InvalidDocument(error.detail, errors=errors) from error
        return self._reply(stated)

    def _state(
        self,
        decide: Callable[[Catalog], Plan],
        *,
        actor: str | None,
        expected: int | None = None,
        keep: bool = True,
    ) -> _Stated:
        """Plan on the current catalog and append; plan again where someone else was faster."""
        for _ in range(ATTEMPTS_MAX):
            catalog = self._store.current()
            if expected is not None and catalog.revision != expected:
                break
            planned = decide(catalog)
            if not keep or not planned.statements:
                return _Stated(before=catalog, plan=planned, revision=catalog.revision)
            with suppress(RevisionChanged):
                revision = self._store.append(
                    planned.statements,
                    expected_revision=catalog.revision,
                    actor=actor,
                    after=self._answered() if self._answered else NEVER,
                )
                return _Stated(before=catalog, plan=planned, revision=revision)
        raise RevisionChanged("the catalog was changed by someone else; look at it and try again")

    def _plan(self, catalog: Catalog, document: Document, *, prune: bool = False) -> Plan:
        return plan(
            catalog,
            document,
            prune=prune,
            unsupported=self._unsupported,
            now=self._now(catalog),
        )

    def _now(self, catalog: Catalog) -> Micros:
        """The instant edits are judged at: never before what was already recorded."""
        return max(self._clock.now_us(), catalog.recorded_at)

    def _reply(self, stated: _Stated) -> dict[str, Any]:
        changes = [
            {
                "kind": change.kind.value,
                "id": change.id,
                "action": change.action,
                "before": change.before,
                "after": change.after,
            }
            for change in stated.plan.changes
        ]
        reply: dict[str, Any] = {
            "changes": changes,
            "warnings": [*stated.plan.warnings, *self._warnings(stated.plan)],
            "revision": stated.revision,
        }
        if self._lines_to_rerate is not None:
            before, after = stated.before, stated.plan.catalog
            reply["open_lines"] = self._lines_to_rerate(before, after)
        return reply

    def _warnings(self, planned: Plan) -> Iterable[str]:
        """What is to be said of contracts that are new, or others than before."""
        if self._noted is None:
            return ()
        stated = [
            ContractId(change.id)
            for change in planned.changes
            if change.kind is Kind.CONTRACTS and change.action in {"create", "update"}
        ]
        return self._noted(planned.catalog, stated)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stated:
    """A plan, what it was made on, and the revision that holds it (or held before it)."""

    before: Catalog
    plan: Plan
    revision: int


def version_view(kind: Kind, version: Version[Value]) -> dict[str, object]:
    """One version as the API shows it: id, fields, effective times, when it was stated."""
    body = render_version(
        kind, version.value, since=version.effective_from, until=version.effective_until
    )
    return {
        "id": version.value.id,
        **body,
        "recorded_at": to_rfc3339(version.recorded_at),
        "revision": version.revision,
    }
