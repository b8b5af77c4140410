"""Checks without a script: an account's fields, read by a plain command and judged here.

``decide.lua`` first ends what lapsed or expired. Where nothing is held at a place, nothing there
can have: what is left follows from a few fields, which one command reads as they are at one
instant. It is the same command every time, and mostly the same reply.
"""

from __future__ import annotations

from typing import Any

import msgspec

from entitlements.ports import Gate, Question, Status, Verdict
from storage.redis.scripts import account_key, unpack
from storage.redis.spelling import bulk

_FIELDS = 4


class Look(msgspec.Struct, eq=False, gc=False):
    """A question's command, under one epoch, and the last reply that could be judged here.

    ``verdict`` is what that reply meant.
    """

    epoch: str
    command: bytes
    reply: list[str | None] | None = None
    verdict: Verdict | None = None

    def read(self, question: Question, reply: Any) -> Verdict | None:
        """The verdict of a reply; null where only the script can tell, or do, what is next."""
        if type(reply) is not list or reply[0] != self.epoch:
            return None  # refused, or another epoch
        allowed, passed, left = True, [], []
        taken: dict[tuple[str, int], int] = {}
        for slot, at in zip(question.slots, range(1, len(reply), _FIELDS), strict=True):
            schedule, current, used, held = reply[at : at + _FIELDS]
            behind = current is not None and slot.segment < int(current)
            if schedule != slot.schedule or behind or held is not None:
                return None
            place = slot.feature, slot.segment
            before = slot.opening - taken.get(place, 0) - (unpack(used) if used else 0)
            passes = slot.gate is not Gate.HARD or before >= slot.amount
            if passes:
                taken[place] = taken.get(place, 0) + slot.amount
            allowed = allowed and passes
            passed.append(passes)
            left.append(before)
        self.reply = reply
        self.verdict = Verdict(
            status=Status.DECIDED, allowed=allowed, passed=tuple(passed), left=tuple(left)
        )
        return self.verdict


def look_of(question: Question, epoch: str) -> Look:
    """What is noted with the question, or a new one under another epoch."""
    noted = question.noted
    if type(noted) is Look and noted.epoch == epoch:
        return noted
    look = question.noted = Look(epoch, _command(question))
    return look


def _command(question: Question) -> bytes:
    fields = ["HMGET", account_key(question.customer), "e"]
    for slot in question.slots:
        place = f"{slot.feature}:{slot.segment}"
        fields += [f"g:{slot.feature}", f"c:{slot.feature}", f"u:{place}", f"h:{place}"]
    return b"*%d\r\n" % len(fields) + b"".join(map(bulk, fields))
