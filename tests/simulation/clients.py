"""Clients: bodies of events, some sent before, some changed, some wrong; and voids."""

from __future__ import annotations

from random import Random

import orjson

from tests.simulation.oracle import Attempt, Identity, Sent

GIVEN_TIME = "2025-12-31T23:59:59.5Z"


def spelled(number: int) -> str:
    """White space that says ``number``."""
    return f"{number:b}".replace("0", " ").replace("1", "\t")


class Clients:
    """Everybody who sends to the nodes. Values belong to identities; a conflict changes one."""

    def __init__(self, chance: Random, *, wrong: float, astray: float) -> None:
        self.chance = chance
        self._new = chance.random()
        self._wrong = wrong
        self._astray = astray
        self._known: dict[str, list[Identity]] = {}
        self._numbers = 0
        self._values: dict[Identity, int] = {}

    def attempt(self, node: str, *, home: dict[Identity, str]) -> Attempt:
        """A body for ``node``. ``home`` remembers where an identity was sent first."""
        self._numbers += 1
        size = self.chance.choice([1, 1, 2, 4, 7])
        events = [self._event(node, home) for _ in range(size)]
        dry_run = self.chance.random() < 0.05
        atomic = not dry_run and self.chance.random() < 0.1
        return Attempt(self._numbers, node, events, atomic=atomic, dry_run=dry_run)

    def _event(self, node: str, home: dict[Identity, str]) -> Sent:
        known = self._known.setdefault(node, [])
        elsewhere = [i for i in home if home[i] != node]
        if elsewhere and self.chance.random() < self._astray:
            identity = self.chance.choice(elsewhere)
            known.append(identity)
        elif known and self.chance.random() > 0.3 + self._new / 2:
            identity = self.chance.choice(known)
        else:
            identity = "s1", f"e{len(home)}"
            home[identity] = node
            known.append(identity)
            self._values[identity] = self.chance.randint(1, 10**6)
        value = self._values[identity]
        if self.chance.random() < 0.08:
            value += 1
        text = f'{{"n":{spelled(self._numbers)}{value}}}'
        return Sent(identity, value, text, valid=self.chance.random() >= self._wrong)

    def known(self, node: str, count: int) -> list[Identity]:
        """Some distinct identities that were sent to ``node``."""
        known = self._known.get(node, [])
        return self.chance.sample(known, min(count, len(known)))


def again(attempt: Attempt) -> Attempt:
    """The same body once more, by a client that got no answer."""
    return Attempt(attempt.number, attempt.node, attempt.events, atomic=attempt.atomic)


def asking(number: int, node: str, values: dict[Identity, int]) -> Attempt:
    """A dry run that asks for all of them."""
    text = spelled(number)
    events = [Sent(i, value, f'{{"n":{text}{value}}}') for i, value in values.items()]
    return Attempt(number, node, events, dry_run=True)


def written(attempt: Attempt) -> bytes:
    """The JSON body."""
    return b"[" + b",".join(_text(event) for event in attempt.events) + b"]"


def _text(event: Sent) -> bytes:
    source, name = event.identity
    head: dict[str, object] = {"specversion": "1.0", "id": name, "source": source, "type": "call"}
    if event.valid:
        head["subject"] = f"subject-{len(name) % 3}"
    if name.endswith("3"):
        head["time"] = GIVEN_TIME
    return orjson.dumps(head)[:-1] + b',"data":' + event.data.encode() + b"}"
