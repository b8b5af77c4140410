"""What a check says: well, or where the first difference is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from catalog.ids import NodeId, Seq


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    DIFFERENT = "different"
    UNAVAILABLE = "unavailable"
    """It could not be made: the store did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first place where two copies of the same truth disagree.

    ``seq`` is the log record concerned, null where the check is not about one (a balance).
    """

    check: str
    store: str
    node: NodeId | None
    seq: Seq | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison. ``store`` is what is compared with the log, ``node`` whose log it is."""

    check: str
    store: str
    node: NodeId | None
    status: Status
    detail: str
    first_difference: Difference | None = None

    @classmethod
    def well(cls, check: str, store: str, node: NodeId | None, detail: str) -> Check:
        """A check that found nothing."""
        return cls(check=check, store=store, node=node, status=Status.OK, detail=detail)

    def differs(self, seq: Seq | None, detail: str) -> Check:
        """The same check, failed at ``seq``."""
        at = Difference(check=self.check, store=self.store, node=self.node, seq=seq)
        return replace(self, status=Status.DIFFERENT, detail=detail, first_difference=at)

    def unavailable(self, detail: str) -> Check:
        """The same check, which could not be made: ``detail`` says why."""
        return replace(self, status=Status.UNAVAILABLE, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks of one run, in the order they were made."""

    checks: Sequence[Check]

    @property
    def ok(self) -> bool:
        """Whether every check was made and found nothing."""
        return all(check.status is Status.OK for check in self.checks)

    def as_json(self) -> Mapping[str, object]:
        """``{ok, checks: [{check, store, node, status, detail, first_difference}]}``."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}
