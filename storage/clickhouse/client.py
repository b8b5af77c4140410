"""A ClickHouse, embedded (chDB) or over HTTP, that speaks Arrow and never retries an insert.

clickhouse-connect sends an insert again when the connection closes before the answer, which
doubles rows that had arrived. A body that can be read only once is not sent again, so inserts
are handed over as a generator.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import polars as pl
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.external import ExternalData

from catalog.errors import OutOfRange, Unavailable

DECIMAL_OVERFLOW = 407
CLIENT_SETTINGS = {
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_compression_method": "lz4_frame",
    "join_use_nulls": 0,
}
ONE_PART = {
    "max_insert_threads": 1,
    "input_format_parallel_parsing": 0,
    "max_insert_block_size": 100_000_000,
    "min_insert_block_size_rows": 100_000_000,
    "min_insert_block_size_bytes": 0,
    "max_partitions_per_insert_block": 1,
    "async_insert": 0,
}
"""One insert = one block = one part: a kill leaves all of it or nothing."""


class StoreUnavailable(Unavailable):
    """ClickHouse did not answer. Whether an insert arrived is unknown: look before sending."""

    code = "store_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where ClickHouse is: ``url`` over HTTP, else ``path`` opened by this process (chDB).

    One process opens one path. ``url`` is ``http://user:password@host:8123``.
    """

    path: Path | None = None
    url: str | None = None
    database: str = "tallyman"
    timeout_s: int = 60


class ClickHouse:
    """A pool of clients on one database. Thread-safe: each call borrows a client of its own."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    @property
    def embedded(self) -> bool:
        """Whether the engine runs in this process."""
        return self.address.url is None

    def query(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        *,
        lent: Mapping[str, pl.DataFrame] | None = None,
    ) -> pl.DataFrame:
        """The rows of ``sql``. Decimals and instants come as Arrow, exact.

        Args:
            sql: with ``{name:Type}`` parameters.
            parameters: their values.
            lent: frames the query may read as tables of these names, for this query only.

        Raises:
            StoreUnavailable: no answer.
            OutOfRange: a decimal does not fit.
        """
        with self._client() as client:
            if self.embedded:
                with _temporary(client, lent or {}):
                    content = client.raw_query(sql, parameters=parameters, fmt="Arrow")
            else:
                external = _external(lent or {})
                content = client.raw_query(
                    sql, parameters=parameters, fmt="Arrow", external_data=external
                )
        return pl.read_ipc(io.BytesIO(content)) if content else pl.DataFrame()

    def command(self, sql: str) -> None:
        """Run a statement that has no rows."""
        with self._client() as client:
            client.command(sql)

    def insert(self, table: str, rows: pl.DataFrame, *, token: str, query_id: str) -> None:
        """Insert ``rows`` as one part. Sent once.

        Raises:
            StoreUnavailable: they may be there or not.
        """
        settings = {**ONE_PART, "insert_deduplication_token": token, "query_id": query_id}
        with self._client() as client:
            client.raw_insert(table, list(rows.columns), _once(rows), settings, "Arrow")

    def close(self) -> None:
        """Close the idle clients. Call it when nothing is under way."""
        with self._lock:
            clients, self._idle = self._idle, []
        for client in clients:
            client.close()

    @contextmanager
    def _client(self) -> Iterator[Any]:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        try:
            client = client or self._connect()
            yield client
        except (ClickHouseError, OSError) as error:
            if client is not None:
                _close_quietly(client)
            if getattr(error, "code", None) == DECIMAL_OVERFLOW:
                raise OutOfRange("a sum has over 18 digits") from error
            raise StoreUnavailable(f"ClickHouse: {str(error)[:300]}") from error
        else:
            with self._lock:
                self._idle.append(client)

    def _connect(self) -> Any:
        address = self.address
        if address.url is None:
            client = clickhouse_connect.get_client(
                interface="chdb", path=str(address.path), settings=CLIENT_SETTINGS
            )
        else:
            client = clickhouse_connect.get_client(
                dsn=address.url,
                settings=CLIENT_SETTINGS,
                autogenerate_session_id=False,
                connect_timeout=min(5, address.timeout_s),
                send_receive_timeout=address.timeout_s,
                query_retries=0,
                compress=False,
            )
        client.command(f"CREATE DATABASE IF NOT EXISTS `{address.database}`", use_database=False)
        client.database = address.database
        return client


def _close_quietly(client: Any) -> None:
    try:
        client.close()
    except (ClickHouseError, OSError):
        return


def _arrow(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.rechunk().write_ipc(buffer, compat_level=pl.CompatLevel.oldest())
    return buffer.getvalue()


def _once(rows: pl.DataFrame) -> Iterator[bytes]:
    yield _arrow(rows)


def _structure(rows: pl.DataFrame) -> str:
    types: dict[Any, str] = {
        pl.Int64: "Nullable(Int64)",
        pl.String: "Nullable(String)",
        pl.Datetime("us", "UTC"): "DateTime64(6, 'UTC')",
    }
    return ", ".join(f"`{name}` {types[dtype]}" for name, dtype in rows.schema.items())


def _external(lent: Mapping[str, pl.DataFrame]) -> ExternalData | None:
    if not lent:
        return None
    external = ExternalData()
    for name, rows in lent.items():
        external.add_file(
            file_name=name, data=_arrow(rows), fmt="Arrow", structure=_structure(rows)
        )
    return external


@contextmanager
def _temporary(client: Any, lent: Mapping[str, pl.DataFrame]) -> Iterator[None]:
    """Tables that only this client sees; a client that fails midway is closed with them."""
    for name, rows in lent.items():
        client.command(f"CREATE TEMPORARY TABLE `{name}` ({_structure(rows)})")
        client.raw_insert(name, list(rows.columns), _once(rows), {}, "Arrow")
    yield
    for name in lent:
        client.command(f"DROP TEMPORARY TABLE `{name}`")
