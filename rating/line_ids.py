"""The ids of lines as columns: made once, when they are first shown, and kept with the plans."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import polars as pl

from catalog.events import EMPTY_DIMENSIONS
from rating.plan import LineName
from rating.planned import Planned

FEW_LINES = 64
"""So few ids take less time one by one than their columns take to set up."""
_DIGEST_BYTES = 10


class LineIds:
    """The ids of the lines of some plans. Thread-safe: two at once may make the same."""

    def __init__(self, plans: Planned) -> None:
        self._plans = plans
        self._whole = pl.Series("line_id", [None], dtype=pl.String).new_from_index(0, len(plans))
        self._grouped: dict[tuple[int, str], str] = {}
        nothing = pl.Series([], dtype=pl.Int64), pl.Series([], dtype=pl.String)
        self._last = *nothing, nothing[1]

    def of(self, line: pl.Series, dimensions: pl.Series) -> pl.Series:
        """``line_id`` of lines and their groups, row by row."""
        whole = dimensions == EMPTY_DIMENSIONS
        known = self._whole
        found = known.gather(line)
        missing = found.is_null() & whole
        if missing.any():
            known = self._whole = self._with_whole(known, line.filter(missing).unique())
            found = known.gather(line)
        rows = (~whole).arg_true()
        if rows.is_empty():
            return found
        return found.scatter(rows, self._of_groups(line.gather(rows), dimensions.gather(rows)))

    def _with_whole(self, known: pl.Series, line: pl.Series) -> pl.Series:
        """``known`` with the ids of ``line``.

        Who asked for them goes on with this: another thread may keep its own in its place.
        """
        group = pl.Series([EMPTY_DIMENSIONS]).new_from_index(0, len(line))
        return known.clone().scatter(line, self._made(line, group))

    def _of_groups(self, line: pl.Series, group: pl.Series) -> pl.Series:
        """The ids of groups; those of the last question are mostly asked for again."""
        lines, groups, ids = self._last
        if not (line.equals(lines) and group.equals(groups)):
            ids = pl.Series(self._looked_up(line, group), dtype=pl.String)
            self._last = line, group, ids
        return ids

    def _looked_up(self, line: pl.Series, group: pl.Series) -> list[str]:
        keys = list(zip(line, group, strict=True))
        new = [key for key in dict.fromkeys(keys) if key not in self._grouped]
        if new:
            lines, groups = zip(*new, strict=True)
            made = self._made(pl.Series(lines, dtype=pl.Int64), pl.Series(groups))
            self._grouped.update(zip(new, made, strict=True))
        return [self._grouped[key] for key in keys]

    def _made(self, line: pl.Series, group: pl.Series) -> pl.Series:
        """New ids: what :meth:`rating.plan.LineName.line_id` says of each."""
        plans = self._plans
        if len(line) <= FEW_LINES:
            made = [plans[index].line_id(named) for index, named in zip(line, group, strict=True)]
            return pl.Series(made, dtype=pl.String)
        owner, part = plans.owner[line.to_numpy()], plans.part[line.to_numpy()]
        names = {place: _name(plans, place) for place in np.unique(part).tolist()}
        contracts = pl.Series([owner.contract for owner in plans.owners], dtype=pl.String)
        frame = pl.DataFrame(
            {
                "contract": contracts[owner],
                "day": pl.Series([names[place].day for place in part.tolist()]),
                "place": pl.Series([names[place].place for place in part.tolist()]),
                "group": group,
            }
        )
        texts = frame.select(pl.concat_str("contract", "place", "group").cast(pl.Binary))
        digests = [sha256(text).digest()[:_DIGEST_BYTES] for text in texts.to_series()]
        digest = pl.Series("digest", digests, dtype=pl.Binary).bin.encode("hex")
        named = frame.with_columns(digest)
        return named.select(pl.concat_str("contract", "day", "digest")).to_series()


def _name(plans: Planned, place: int) -> LineName:
    part = plans.parts[place]
    return LineName.of(part.slot, part.terms.invoicing.timing, part.period.start, part.start)
