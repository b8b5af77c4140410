"""Whether Parquet facts reach as far as the log is sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from api.checks.report import Check
from catalog.ids import NodeId, Seq, SpecId
from storage.log.frames import LogCorrupt
from storage.parquet.facts import VOIDS_KEY, ParquetFacts


def check_coverage(
    facts: ParquetFacts, specs: Iterable[SpecId], *, node: NodeId, log: Callable[[], int]
) -> Check:
    """Find a facts file that is not there. For data at rest: a reader that runs writes it anew.

    Args:
        facts: opened after the service ended, so that it knows nothing but the files.
        specs: every spec there is to be a file of for every segment; compensations too.
        node: whose log.
        log: the last sealed record.
    """
    well = Check.well("coverage", "facts", node, "every sealed segment has its facts")
    try:
        last = log()
    except LogCorrupt as error:
        return well.unavailable(error.detail)
    reached = {key: facts.state(key, node).sealed for key in (VOIDS_KEY, *specs)}
    key, place = min(reached.items(), key=lambda item: item[1])
    if place >= last:
        return well
    return well.differs(
        Seq(place + 1),
        f"the files of {key} end at record {place}, the log is sealed to {last}; "
        "they are written again by `tallyman rebuild facts`, or when the service runs",
    )
