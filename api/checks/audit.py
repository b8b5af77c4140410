"""The audit log against itself: no entry is missing or was changed."""

from __future__ import annotations

from collections.abc import Iterator

from api.checks.report import Check
from catalog.errors import Unavailable
from storage.sql.audit import AuditLog

STORE = "audit"


def check_audit(audit: AuditLog) -> Iterator[Check]:
    """The chain of hashes, from the first entry to the last."""
    well = Check.well("chain", STORE, None, "every entry follows from the one before")
    try:
        count, broken = audit.first_broken()
    except Unavailable as error:
        yield well.unavailable(error.detail)
        return
    if broken is not None:
        yield well.differs(None, f"entry {broken} is not what was recorded, or is missing")
    else:
        yield Check.well("chain", STORE, None, f"{count} entries, each follows from the one before")
