"""Who an event is, and what it says: the columns an :class:`ingest.ports.IdentityIndex` keeps."""

from __future__ import annotations

import polars as pl

_SEEDS = {"type": 0x7A11, "subject": 0x7A12, "data": 0x7A13}
_TIME_SEED = 0x7A14
_NO_TIME = pl.Series([None], dtype=pl.Int64)


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
    given = events["time_given"]
    time = events["time"].to_physical()
    if not given.all():
        time = time.zip_with(given.fill_null(value=False), _NO_TIME)
    # Series by Series: starting a query costs more than hashing a thousand rows.
    content = time.hash(_TIME_SEED)
    for name, seed in _SEEDS.items():
        content = content ^ events[name].hash(seed)
    return pl.DataFrame([events["source"], events["id"], content.alias("content")])
