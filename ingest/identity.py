"""Who an event is, and what it says: the columns an :class:`ingest.ports.IdentityIndex` keeps."""

from __future__ import annotations

import polars as pl

_SEEDS = {"type": 0x7A11, "subject": 0x7A12, "data": 0x7A13}
_TIME_SEED = 0x7A14
_GIVEN_TIME = pl.when("time_given").then(pl.col("time").to_physical())
_CONTENT = _GIVEN_TIME.hash(_TIME_SEED)
for _name, _seed in _SEEDS.items():
    _CONTENT ^= pl.col(_name).hash(_seed)


def identities(events: pl.DataFrame) -> pl.DataFrame:
    """Columns ``source``, ``id`` and ``content`` (UInt64) of events, in row order.

    Args:
        events: any frame with RECORDS' ``source``, ``id``, ``type``, ``subject``, ``time``,
            ``time_given`` and ``data``.

    ``content`` digests what an exact copy repeats: type, subject, the time if it was given, and
    the text of the data. Equal digests (64 bits, within one identity) are taken for equal content;
    different ones prove nothing, for data may be the same JSON spelled another way. The digest is
    Polars' own hash, which other versions of Polars may compute differently: then copies are
    compared in full, which is slower and as right.
    """
    # In sequence: handing a few hashes to other threads costs more than computing them.
    return events.select_seq("source", "id", _CONTENT.alias("content"))
