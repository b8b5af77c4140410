"""The power goes, the process dies or the disk fails in every call the log ever makes."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pytest

from catalog.clock import FixedClock
from ingest.batch import to_records
from ingest.ports import LogUnavailable
from storage.log.home import LogLimits
from storage.log.verify import verify_segments
from storage.memory.files import PowerCut, SimFiles
from tests.log_samples import (
    HOME,
    NODE,
    T0_US,
    events,
    everything,
    follow,
    heartbeat,
    ids,
    open_log,
    void,
)

LIMITS = LogLimits(hot_bytes_max=4_500)
GROUPS = 4


class Story:
    """A gateway that appends, syncs and rolls, and a worker that follows and seals."""

    def __init__(self, files: SimFiles) -> None:
        self.files = files
        self.sent: list[str] = []
        self.acknowledged: list[str] = []
        self.clock = FixedClock(T0_US)

    def run(self) -> None:
        """The whole story, from opening on."""
        log = open_log(files=self.files, limits=LIMITS, clock=self.clock)
        follower = follow(files=self.files)
        for number in range(GROUPS):
            self.clock.set(T0_US - number)  # a clock that only ever steps back
            for part in (events(3, start=4 * number), events(1, start=4 * number + 3)):
                self.sent += ids(part)
                log.append(to_records(part))
            log.sync()
            self.acknowledged = list(self.sent)
            seen = ids(everything(follower))
            assert seen == self.acknowledged, "a follower sees what is durable, and nothing else"
            log.append(to_records(heartbeat() if number % 2 else void(1, id="request-0")))
            log.roll_if_due()
            follower.seal_closed()
        log.close()

    def check(self) -> None:
        """Everything acknowledged is there, nothing else was invented, and life goes on."""
        log = open_log(files=self.files, limits=LIMITS, clock=self.clock)
        found = everything(log)
        assert ids(found) == self.sent[: len(ids(found))]
        assert ids(found)[: len(self.acknowledged)] == self.acknowledged
        assert found["seq"].to_list() == list(range(1, found.height + 1))
        assert (found["received_at"].diff().drop_nulls().dt.total_microseconds() > 0).all()
        log.append(to_records(events(1, start=1_000)))
        log.sync()
        follower = follow(files=self.files)
        follower.seal_closed()
        assert ids(everything(follower)) == [*ids(found), "request-1000"]
        assert everything(log).equals(everything(follower))
        assert verify_segments(HOME, node=NODE, files=self.files) is None
        log.close()


def calls_of_the_story() -> int:
    """How many calls that change something there are to fail."""
    files = SimFiles()
    Story(files).run()
    return files.calls


def every_call() -> Iterator[int]:
    """1, 2, 3, … up to the last."""
    yield from range(1, calls_of_the_story() + 1)


def test_the_story_passes_every_place_that_matters() -> None:
    """It rolls and seals several times, else cutting it short would prove little."""
    files = SimFiles()
    Story(files).run()
    assert sum(name.endswith(".json") for name in files.names(HOME)) >= 2
    assert verify_segments(HOME, node=NODE, files=files) is None


@pytest.mark.parametrize(("seed", "power_cut"), [(0, True), (1, True), (2, False)])
def test_a_crash_in_any_call_loses_nothing_acknowledged(seed: int, *, power_cut: bool) -> None:
    """Killed (the page cache stays) or without power (it does not)."""
    for call in every_call():
        files = SimFiles(seed * 10_007 + call)
        story = Story(files)
        files.cut_at(call)
        with pytest.raises(PowerCut):
            story.run()
        files.restart(power_cut=power_cut)
        story.check()


def test_a_second_crash_while_recovering_loses_nothing_either() -> None:
    """Recovery can be cut short like anything else."""
    for call in list(every_call())[::5]:
        for second in range(1, 8):
            files = SimFiles(call)
            story = Story(files)
            files.cut_at(call)
            with pytest.raises(PowerCut):
                story.run()
            files.restart(power_cut=True)
            files.cut_at(second)
            with contextlib.suppress(PowerCut):  # or recovery makes fewer calls than that
                open_log(files=files, limits=LIMITS, clock=story.clock)
            files.restart(power_cut=True)
            story.check()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_disk_error_in_any_call_loses_nothing_acknowledged(error: int) -> None:
    """The error is told, never swallowed; and after a restart with power loss all is there."""
    for call in every_call():
        files = SimFiles(call)
        story = Story(files)
        files.fail_at(call, error)
        with contextlib.suppress(LogUnavailable, OSError):
            story.run()
        files.restart(power_cut=True)
        story.check()
