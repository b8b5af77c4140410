"""Statements as rows and back. A body's text is written once and never rewritten."""

from __future__ import annotations

import json

from sqlalchemy import RowMapping

from catalog.clock import Micros
from catalog.history import Kind, NewStatement, Statement, versions_from_json, versions_to_json


def to_row(
    new: NewStatement, *, revision: int, recorded_at: Micros, actor: str | None
) -> dict[str, object]:
    """``new`` as a row of STATEMENTS, in its place."""
    return {
        "revision": revision,
        "kind": new.kind.value,
        "id": new.id,
        "recorded_at": recorded_at,
        "retired": new.retired,
        "whole_chain": new.whole_chain,
        "versions": json.dumps(versions_to_json(new.versions)),
        "actor": actor,
    }


def from_row(row: RowMapping) -> Statement:
    """The statement a row of STATEMENTS holds."""
    return Statement(
        revision=row["revision"],
        kind=Kind(row["kind"]),
        id=row["id"],
        recorded_at=Micros(row["recorded_at"]),
        retired=row["retired"],
        whole_chain=row["whole_chain"],
        versions=versions_from_json(json.loads(row["versions"])),
    )
