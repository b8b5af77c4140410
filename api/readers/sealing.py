"""Sealing: closed hot files become Parquet segments, away from the gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from api.readers.base import Pace, Reader, Segment, Tail
from catalog.ids import NodeId, Seq


class SealableTail(Tail, Protocol):
    """A log whose closed hot files this process may seal."""

    def segments(self) -> Sequence[Segment]:
        """The sealed segments, in log order."""
        ...

    def seal_closed(self) -> Sequence[Segment]:
        """Seal every closed hot file; what was sealed now."""
        ...


class Sealer(Reader):
    """Seals each node's closed hot files and tells who waits for segments."""

    waited_for = False

    def __init__(
        self,
        *,
        tails: Callable[[], Mapping[NodeId, SealableTail]],
        sealed: Callable[[], None] = lambda: None,
        pace: Pace | None = None,
    ) -> None:
        super().__init__(name="sealer", tails=tails, pace=pace or Pace(poll_s=0.5))
        self._sealable = tails
        self._sealed = sealed

    def step(self) -> bool:
        """Seal what is closed on every node; one broken node does not keep the others waiting."""
        worked, broken = False, None
        for tail in self._sealable().values():
            try:
                worked |= bool(tail.seal_closed())
            except Exception as error:  # noqa: BLE001 - raised below, after the other nodes
                broken = error
        if worked:
            self._sealed()
        if broken is not None:
            raise broken
        return worked

    def positions(self) -> dict[NodeId, Seq]:
        """The last sealed record by node."""
        sealed = {node: tail.segments() for node, tail in self._sealable().items()}
        return {node: segs[-1].last_seq if segs else Seq(0) for node, segs in sealed.items()}
