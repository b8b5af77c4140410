"""What changed between two forms of an object, field by field, as a person would say it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# What tells the elements of a list apart, most telling first: prices, grants, claims, discounts.
# None: the elements themselves, where they are texts.
NAMING_KEYS = ("id", "overrides", "product", "feature", "subject", "up_to", "effective_from", None)
LAST = "last"
_ABSENT: Any = ()  # nothing in JSON equals it


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One field that differs. None: it was, or is, not there."""

    path: str
    before: str | None
    after: str | None


def field_changes(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> list[FieldChange]:
    """The fields that differ between two forms, in the order they are written."""
    return list(_changes("", before or {}, after or {}))


def _changes(path: str, old: Any, new: Any) -> Iterator[FieldChange]:
    """Every scalar that differs, with its path: ``prices[tokens].charge.unit_price``."""
    if old == new:
        return
    members = _members(old, new)
    if members is None:
        yield FieldChange(path=path, before=_shown(old), after=_shown(new))
        return
    for name, old_child, new_child in members:
        yield from _changes(
            f"{path}{name}" if path else name.removeprefix("."), old_child, new_child
        )


def _members(old: Any, new: Any) -> list[tuple[str, Any, Any]] | None:
    """What two containers of one kind hold, paired by name; None where they cannot be paired."""
    kinds = [type(each) for each in (old, new) if each not in (_ABSENT, {}, [])]
    if not kinds or any(kind is not kinds[0] for kind in kinds):
        return None
    if kinds[0] is dict:
        pairs = [{f".{key}": child for key, child in (each or {}).items()} for each in (old, new)]
    elif kinds[0] is list:
        pairs = _named(old or [], new or [])
    else:
        return None
    held, given = pairs
    return [(name, held.get(name, _ABSENT), given.get(name, _ABSENT)) for name in {**held, **given}]


def _named(old: list[Any], new: list[Any]) -> list[dict[str, Any]]:
    """Both lists by a name of each element that stays its own when others come and go."""
    names = next(
        (found for key in NAMING_KEYS if (found := _names_by(key, old, new))),
        [[str(index) for index in range(len(items))] for items in (old, new)],
    )
    return [
        {f"[{name}]": item for name, item in zip(names[side], items, strict=True)}
        for side, items in enumerate((old, new))
    ]


def _names_by(key: str | None, *lists: list[Any]) -> list[list[str]] | None:
    """Names by one key (None: the elements themselves), if it tells all elements apart."""
    found = []
    for items in lists:
        named: list[Any] = [
            (item.get(key) if isinstance(item, dict) else None) if key else item for item in items
        ]
        # An open last tier has no bound: the last element may go without the key.
        if key and named and named[-1] is None and len(named) > 1:
            named[-1] = LAST
        if not all(isinstance(name, str) for name in named) or len(set(named)) < len(named):
            return None
        found.append(named)
    return found


def _shown(value: Any) -> str | None:
    if value == _ABSENT:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
