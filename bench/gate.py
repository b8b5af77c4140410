"""Correct, or no figure: a row whose totals are wrong fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.load.generator import Sent


class BenchFailed(Exception):
    """A row has no figure; the message says why."""


def expect(what: str, *, seen: object, wanted: object) -> None:
    """Fail the row unless both are equal.

    Raises:
        BenchFailed: they are not.
    """
    if seen != wanted:
        raise BenchFailed(f"{what}: {seen!r} instead of {wanted!r}")


def expect_all_answered(sent: Sent, *, who: str) -> None:
    """Fail the row unless every request was sent and answered with 200.

    Raises:
        BenchFailed: one was not.
    """
    expect(f"{who}: requests answered", seen=sent.answered, wanted=sent.requests)
    expect(f"{who}: statuses", seen=sent.statuses, wanted={"200": sent.requests})


def expect_accepted(sent: Sent, *, events: int, who: str) -> None:
    """Fail the row unless every event was accepted, none as a copy and none rejected.

    Raises:
        BenchFailed: one was not.
    """
    expect_all_answered(sent, who=who)
    seen = (sent.accepted, sent.duplicates, sent.with_rejections)
    expect(f"{who}: (accepted, duplicates, rejections)", seen=seen, wanted=(events, 0, 0))
