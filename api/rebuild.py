"""``tallyman rebuild clickhouse,facts,ledger``: drop what was derived and replay the log.

A store is dropped between two steps of its reader, which then starts over because positions are
read back from the store. Plain dependencies: the running service's route and the offline command
call the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from api.readers.base import Reader
from catalog.errors import FieldError, InvalidRequest, Unavailable
from catalog.ids import NodeId, Seq


class UnknownStore(InvalidRequest):
    """A store was named that is not derived, or not here."""

    code = "unknown_store"


class RebuildTooSlow(Unavailable):
    """The replay goes on, but was not waited for any longer."""

    code = "readers_behind"


class Follower(Protocol):
    """Who fills a store: a reader, here or in a process of its own."""

    @property
    def failure(self) -> str | None:
        """Why its last step failed, or null."""
        ...

    def positions(self) -> dict[NodeId, Seq]:
        """The last record applied, by node."""
        ...

    def reach(self) -> dict[NodeId, Seq]:
        """The last record that can be applied now, by node."""
        ...

    def paused(self) -> AbstractContextManager[None]:
        """Hold it between two steps, where the store is dropped under it."""
        ...

    def wake(self) -> None:
        """Look now instead of at the next poll."""
        ...


F_co = TypeVar("F_co", bound=Follower, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuildable(Generic[F_co]):
    """One derived store: who fills it and how it is emptied."""

    reader: F_co
    drop: Callable[[], None]


Stores = Mapping[str, Rebuildable[Follower]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one store is: records applied, and records there are. ``failure`` is the reader's."""

    store: str
    applied: int
    durable: int
    failure: str | None = None

    @property
    def level(self) -> bool:
        """Whether all is applied."""
        return self.applied >= self.durable


def chosen(names: Iterable[str], stores: Stores) -> list[str]:
    """``names`` as given, each once.

    Raises:
        UnknownStore: one of them is not in ``stores``.
    """
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in stores]
    if unknown or not wanted:
        detail = f"one of {', '.join(sorted(stores))}"
        raise UnknownStore(
            f"cannot rebuild {', '.join(unknown) or 'nothing'}: {detail}",
            errors=[FieldError(pointer="/stores", detail=detail)],
        )
    return wanted


def drop(names: Sequence[str], stores: Stores) -> None:
    """Empty the stores; readers that run begin to replay at once.

    Raises:
        UnknownStore: nothing was dropped.
    """
    for name in chosen(names, stores):
        store = stores[name]
        with store.reader.paused():
            store.drop()
        store.reader.wake()


def progress_of(name: str, store: Rebuildable[Follower]) -> Progress:
    """How far ``store`` is now."""
    durable = store.reader.reach()
    try:
        positions = store.reader.positions()
    except Unavailable as error:
        return Progress(store=name, applied=0, durable=sum(durable.values()), failure=error.detail)
    applied = sum(min(positions.get(node, 0), last) for node, last in durable.items())
    return Progress(
        store=name, applied=applied, durable=sum(durable.values()), failure=store.reader.failure
    )


def rebuild(
    names: Sequence[str],
    stores: Mapping[str, Rebuildable[Reader]],
    *,
    report: Callable[[Progress], None] = lambda _: None,
) -> list[Progress]:
    """Drop the stores and replay the log into each, in this thread: for readers not running.

    Raises:
        UnknownStore: nothing was dropped.
        Exception: what a reader's step raised; run it again when the cause is gone.
    """
    drop(names, stores)
    finished = []
    for name in chosen(names, stores):
        store = stores[name]
        while True:
            worked = store.reader.step()
            progress = progress_of(name, store)
            report(progress)
            if progress.level and not worked:
                break
            if not worked:
                time.sleep(0.05)
        finished.append(progress)
    return finished


def wait(
    names: Sequence[str],
    stores: Stores,
    *,
    report: Callable[[Progress], None] = lambda _: None,
    wait_s_max: float,
) -> list[Progress]:
    """Wait until the running readers are level again after :func:`drop`.

    Raises:
        RebuildTooSlow: they were not within ``wait_s_max`` seconds; they go on.
    """
    deadline = time.monotonic() + wait_s_max
    while True:
        states = [progress_of(name, stores[name]) for name in chosen(names, stores)]
        for state in states:
            report(state)
        if all(state.level for state in states):
            return states
        if time.monotonic() > deadline:
            raise RebuildTooSlow(f"still replaying after {wait_s_max:.0f} s")
        time.sleep(0.1)
