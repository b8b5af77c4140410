"""Where a mistake between objects is reported, and which objects still count."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from catalog.clock import Micros
from catalog.contracts import Contract
from catalog.errors import FieldError
from catalog.grammar import Value
from catalog.history import chains_of
from catalog.ids import Kind
from catalog.references import last_end
from catalog.snapshot import Catalog, Chain, Version, resolve


@dataclass(slots=True)
class Findings:
    """Mistakes found so far.

    ``pointers`` says where a value (by identity) stands in the document that stated it; values
    that no document states just now are named as ``/kind/id``. ``only`` limits the search to
    some objects, where it is known that the others cannot have become wrong.
    """

    pointers: Mapping[int, str]
    only: Collection[tuple[Kind, str]] | None = None
    errors: list[FieldError] = field(default_factory=list)

    def note(self, kind: Kind, value: Value, path: str, detail: str) -> None:
        """A mistake at ``path`` inside ``value``."""
        base = self.pointers.get(id(value))
        if base is None:
            base, detail = f"/{kind.value}/{value.id}", f"{detail} (stated before)"
        error = FieldError(pointer=f"{base}{path}", detail=detail)
        if error not in self.errors:
            self.errors.append(error)

    def versions(self, catalog: Catalog, kind: Kind) -> Iterator[Version[Value]]:
        """Every version of the objects of one family that are looked at."""
        chains = chains_of(catalog, kind)
        if self.only is None:
            for chain in chains.values():
                yield from chain.versions
            return
        for family, name in self.only:
            if family is kind and name in chains:
                yield from chains[name].versions


def is_live(chain: Chain[Value] | None, now: Micros, timezone: ZoneInfo) -> bool:
    """Whether an object holds now or will: it is neither retired nor over."""
    return chain is not None and any(
        holds_from(version, now, timezone) for version in chain.versions
    )


def holds_from(version: Version[Value], now: Micros, timezone: ZoneInfo) -> bool:
    """Whether a version holds at ``now`` or later; a contract that has ended does not."""
    ends = [version.effective_until]
    if isinstance(version.value, Contract):
        zone = ZoneInfo(version.value.timezone) if version.value.timezone else timezone
        ends.append(last_end(version.value))
        return all(end is None or resolve(end, zone) > now for end in ends)
    return all(end is None or resolve(end, timezone) > now for end in ends)
