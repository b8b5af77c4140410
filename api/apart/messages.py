"""What the worker and the process of the ledger's reader tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from catalog.clock import Micros
from catalog.ids import NodeId, Seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """The log of compensations now, and up to when its reader has looked at the others."""

    node: NodeId
    through: Micros


class Asked(Enum):
    """What the worker may ask for; each is answered."""

    REBUILD = auto()
    RECOUNT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing asked, with a number that its answer repeats."""

    number: int
    asked: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a question; an error is raised where it was asked."""

    number: int
    value: object = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How the reader is: told when it changes, and now and then where it does not.

    ``failures`` counts since the process began. ``rebuilding``: a rebuild was asked for and is not
    finished.
    """

    positions: Mapping[NodeId, Seq] = field(default_factory=dict)
    failure: str | None = None
    failures: int = 0
    rebuilding: bool = False


FromWorker = Copies | Question
ToWorker = State | Answer
