"""Statements as rows and back. A body's text is written once and never rewritten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from catalog.clock import Micros
from catalog.history import Kind, NewStatement, StatedVersion, Statement
from catalog.moments import moment_text, parse_moment
from catalog.pricebooks import Moment


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
        "versions": json.dumps([_version_json(version) for version in new.versions]),
        "actor": actor,
    }


def from_row(row: Mapping[str, Any]) -> Statement:
    """The statement a row of STATEMENTS holds."""
    return Statement(
        revision=row["revision"],
        kind=Kind(row["kind"]),
        id=row["id"],
        recorded_at=Micros(row["recorded_at"]),
        retired=row["retired"],
        whole_chain=row["whole_chain"],
        versions=tuple(_version(stated) for stated in json.loads(row["versions"])),
    )


def _version_json(version: StatedVersion) -> dict[str, object]:
    return {
        "effective_from": _moment_text(version.effective_from),
        "effective_until": _moment_text(version.effective_until),
        "body": dict(version.body),
    }


def _version(stated: Mapping[str, Any]) -> StatedVersion:
    return StatedVersion(
        effective_from=_moment(stated["effective_from"]),
        effective_until=_moment(stated["effective_until"]),
        body=stated["body"],
    )


def _moment_text(moment: Moment | None) -> str | None:
    return None if moment is None else moment_text(moment)


def _moment(text: str | None) -> Moment | None:
    return None if text is None else parse_moment(text)
