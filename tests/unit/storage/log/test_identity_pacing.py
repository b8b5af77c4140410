"""How much of a core the index's thread takes."""

from __future__ import annotations

import threading
import time

from storage.log.identity.pacing import REST_SHARE, Pacing

SLICE_S = 0.002


def work(pacing: Pacing, slices: int, *, waiting: int) -> tuple[float, float]:
    """Work so many slices; seconds of processor time, and of wall clock in rests."""
    worked_s = rested_s = 0.0
    pacing.begin()
    for _ in range(slices):
        until_s = time.thread_time() + SLICE_S
        while time.thread_time() < until_s:
            pass
        worked_s += SLICE_S
        began_s = time.perf_counter()
        pacing.rest(waiting)
        rested_s += time.perf_counter() - began_s
    return worked_s, rested_s


def test_rests_are_as_long_as_work_asks_for() -> None:
    """The more waits, the shorter; a machine that is late only makes them longer."""
    worked_s, rested_s = work(Pacing(), 10, waiting=0)
    assert rested_s >= worked_s * REST_SHARE
    worked_s, rested_s = work(Pacing(), 10, waiting=3)
    assert rested_s >= worked_s * REST_SHARE / 4


def test_nobody_rests_while_somebody_is_in_a_hurry() -> None:
    """Also who rests already is woken."""
    pacing, resting, rested = Pacing(), threading.Event(), threading.Event()

    def rest_for_long() -> None:
        pacing.begin()
        until_s = time.thread_time() + SLICE_S
        while time.thread_time() < until_s:
            pass
        resting.set()
        pacing.rest(-1 + 1e-6)  # for hours
        rested.set()

    thread = threading.Thread(target=rest_for_long, daemon=True)
    thread.start()
    assert resting.wait(30)
    time.sleep(0.05)
    assert not rested.is_set()
    with pacing.hurried():
        assert rested.wait(30)
        worked_s, rested_s = work(pacing, 50, waiting=0)
        assert rested_s < worked_s * REST_SHARE
    thread.join()
