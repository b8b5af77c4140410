"""Two customers may not pay for one subject at one time."""

from __future__ import annotations

from catalog.checks.findings import Findings
from catalog.clock import to_rfc3339
from catalog.ids import Kind, Subject
from catalog.snapshot import Catalog
from catalog.subjects import BEGINNING, ENDLESS, Claim, SubjectIndex


def check_subjects(catalog: Catalog, findings: Findings) -> None:
    """Claims of two customers that overlap, reported at both where the document states both."""
    if findings.only is not None and all(kind is not Kind.CUSTOMERS for kind, _ in findings.only):
        return
    for subject, first, second in SubjectIndex(catalog).conflicts():
        stated = [
            (value, index, other)
            for customer, other in ((first.customer, second), (second.customer, first))
            for value in catalog.customers[customer].values
            for index, claim in enumerate(value.subjects)
            if claim.subject == subject
        ]
        here = [found for found in stated if id(found[0]) in findings.pointers]
        for value, index, other in here or stated:
            detail = _described(subject, other, since=second.since)
            findings.note(Kind.CUSTOMERS, value, f"/subjects/{index}", detail)


def _described(subject: Subject, other: Claim, *, since: int) -> str:
    begin = "" if since == BEGINNING else f" from {to_rfc3339(since)}"
    end = "" if other.until == ENDLESS else f" until {to_rfc3339(other.until)}"
    return f"subject {subject!r} is also claimed by customer '{other.customer}'{begin}{end}"
