"""Checks by their text: what was asked before is not read again.

A caller writes the same check the same way every time. So a body is cut where one check ends and
the next begins, and each piece is looked up by its bytes; only unknown ones are parsed.

A cut is the text ``},{"customer":"``. Its first quotation mark follows a brace, not a backslash,
so it begins a JSON string, and what is before it is structure: the end of an object in an array,
and an object that begins with ``customer``. The schema has such an array in one place. So where
pieces, put together again, parse strictly to as many checks as there are pieces, each piece is one
check; and any others made of such pieces parse to just those checks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from api.hot.decision_bodies import ItemBody, decoded, items_of, texts_of, wrong
from catalog.errors import DomainError
from catalog.ids import CustomerId
from entitlements.checks import Check
from entitlements.requests import Decision

CHECKS_MAX = 1_000

KEPT_MAX = 20_000
"""Checks that are kept, at about two kilobytes. At the limit all are forgotten."""

KEPT_BYTES_MAX = 256
"""A longer text is read every time."""

_SPELLINGS = (
    (b'{"checks":[{"customer":"', b'},{"customer":"', b"}]}"),
    (b'{"checks": [{"customer": "', b'}, {"customer": "', b"}]}"),
)
"""How a body begins, where it is cut, and how it ends; as most write JSON, and as Python does."""


class Told(msgspec.Struct, eq=False, gc=False):
    """A check, with the last decision and how that was shown."""

    check: Check
    decision: Decision | None = None
    shown: bytes = b""


class _Check(msgspec.Struct, forbid_unknown_fields=True):
    customer: str
    items: list[ItemBody]


class _Checks(msgspec.Struct, forbid_unknown_fields=True):
    checks: list[_Check]

    def texts(self) -> int | None:
        count = 1
        for check in self.checks:
            texts = texts_of(check.items)
            if texts is None:
                return None
            count += 3 + texts
        return count


_decoder = msgspec.json.Decoder(_Checks)


class CheckTexts:
    """Reads bodies of checks, and keeps them by their text."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Told] = {}

    def read(self, body: bytes) -> list[Told]:
        """The checks of a body.

        Raises:
            UnreadableBody, InvalidRequest, OutOfRange: they are none, or too many.
        """
        for spelling in _SPELLINGS:
            begin, cut, end = spelling
            if body.startswith(begin) and body.endswith(end):
                pieces = body[len(begin) : -len(end)].split(cut)
                found = list(map(self._kept.get, pieces))
                if None in found:
                    self._learn([p for p in pieces if p not in self._kept], spelling)
                    found = list(map(self._kept.get, pieces))
                told = [each for each in found if each is not None]
                if len(told) == len(pieces) <= CHECKS_MAX:
                    return told
        return [Told(check) for check in checks_of(body)]

    def _learn(self, pieces: Sequence[bytes], spelling: tuple[bytes, bytes, bytes]) -> None:
        """Keep checks that are not known. Whatever is wrong is said when the body is read whole."""
        begin, cut, end = spelling
        new = list(dict.fromkeys(pieces))
        if len(new) > CHECKS_MAX or max(map(len, new)) > KEPT_BYTES_MAX:
            return
        try:
            checks = checks_of(begin + cut.join(new) + end)
        except DomainError:
            return
        if len(checks) != len(new):
            return
        if len(self._kept) + len(new) > KEPT_MAX:
            self._kept.clear()
        self._kept.update(zip(new, map(Told, checks), strict=True))


def checks_of(content: bytes) -> list[Check]:
    """Read checks.

    Raises:
        UnreadableBody, InvalidRequest, OutOfRange: they are none, or too many.
    """
    body = decoded(_decoder, content)
    if not 1 <= len(body.checks) <= CHECKS_MAX:
        raise wrong("/checks", f"must be 1 to {CHECKS_MAX} checks")
    return [
        Check(CustomerId(one.customer), items_of(one.items, at=f"/checks/{index}/items"))
        for index, one in enumerate(body.checks)
    ]
