"""Where events are: asked by a gateway, answered by the worker, which knows all there ever was."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from api.relay import Relay
from catalog.ids import NodeId
from ingest.voids import VoidItem


class Place(msgspec.Struct, frozen=True):
    """Where an event is, and whether it is void."""

    node: NodeId
    seq: int
    void: bool


ITEMS = msgspec.json.Decoder(list[VoidItem])
PATH = "/internal/places"
ASKED_S_MAX = 30.0
_encoder = msgspec.json.Encoder()
_answer = msgspec.json.Decoder(list[Place | None])


def encode_places(places: Sequence[Place | None]) -> bytes:
    """The worker's answer."""
    return _encoder.encode(places)


class WorkerPlaces:
    """Implements :class:`api.voiding.Places` by asking the worker."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def __call__(self, items: Sequence[VoidItem]) -> Sequence[Place | None]:
        """Where each item's event is; see :class:`api.voiding.Places`."""
        content = await self._relay.post(
            PATH, content=_encoder.encode(items), timeout_s=ASKED_S_MAX
        )
        return _answer.decode(content)
