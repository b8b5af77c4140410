"""What the gateway knows of SQL without asking it: catalog, grants and keys, polled.

Requests read plain attributes. A poll is two cheap revision queries in a thread; only a change
loads anything. When SQL is away the last snapshot stays in use and readiness says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from api.auth import Keyring
from catalog.clock import Clock
from catalog.keys import KeyRecord
from catalog.snapshot import Catalog
from entitlements.given import NO_GRANTS, GrantBook

log = structlog.get_logger()

UNKNOWN_KEY_REFRESH_S_MIN = 0.1
LOOK_S_MAX = 5.0  # a look that takes longer is named, and still waited for


class CatalogSource(Protocol):
    """The part of the statement store that is polled."""

    def revision(self) -> int:
        """How many statements there are. Cheap."""
        ...

    def current(self) -> Catalog:
        """The catalog they make."""
        ...


class GrantSource(Protocol):
    """The part of the grant store that is polled."""

    def current(self) -> GrantBook:
        """Every grant there is; the same object while there are no new ones."""
        ...


class KeySource(Protocol):
    """The part of the key store that is polled."""

    def revision(self) -> int:
        """A number that grows with every change. Cheap."""
        ...

    def all(self) -> Sequence[KeyRecord]:
        """Every key there ever was."""
        ...


class Snapshots:
    """The current catalog and keyring of one process."""

    def __init__(
        self,
        *,
        catalog: CatalogSource,
        keys: KeySource,
        clock: Clock,
        poll_s: float,
        grants: GrantSource | None = None,
    ) -> None:
        self._catalog_source = catalog
        self._key_source = keys
        self._grant_source = grants
        self._clock = clock
        self._poll_s = poll_s
        self._lock = asyncio.Lock()
        self._key_revision: int | None = None
        self._looked_at_s = 0.0
        self._listeners: list[Callable[[Catalog], None]] = []
        self.catalog = Catalog()
        self.grants = NO_GRANTS
        self.keyring = Keyring((), clock=clock)
        self.failure: str | None = "not read yet"

    def subscribe(self, listener: Callable[[Catalog], None]) -> None:
        """Call ``listener`` with the catalog, now and after every change, on the event loop."""
        self._listeners.append(listener)
        listener(self.catalog)

    async def refresh(self) -> None:
        """Look at SQL now; on return the snapshots hold whatever was committed before the call.

        Never raises for a failing store: ``failure`` names it instead.
        """
        asked_at_s = time.monotonic()
        async with self._lock:
            if self._looked_at_s > asked_at_s:
                return  # a look that began after this call was asked for has just ended
            self._looked_at_s = time.monotonic()
            late = asyncio.get_running_loop().call_later(
                LOOK_S_MAX, self._fail, TimeoutError(f"no answer within {LOOK_S_MAX:g} s")
            )
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001  (any driver's error means: SQL is away)
                self._fail(error)
                return
            finally:
                late.cancel()
            if self.failure is not None:
                log.info("sql_read", revision=self.catalog.revision)
            self.failure = None

    async def refresh_for_unknown_key(self) -> None:
        """Look again because a key is unknown, but not more often than ten times a second.

        A key made through another gateway works at once, and guessing keys costs SQL nothing.
        """
        if time.monotonic() - self._looked_at_s > UNKNOWN_KEY_REFRESH_S_MIN:
            await self.refresh()

    async def poll(self) -> None:
        """Refresh for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._poll_s)

    async def _look(self) -> None:
        catalog, key_revision, keys = await asyncio.to_thread(
            self._read, self.catalog.revision, self._key_revision
        )
        if self._grant_source is not None:
            self.grants = await asyncio.to_thread(self._grant_source.current)
        if keys is not None:
            self.keyring = Keyring(keys, clock=self._clock)
            self._key_revision = key_revision
        if catalog is not None:
            self.catalog = catalog
            for listener in self._listeners:
                listener(catalog)

    def _read(
        self, catalog_revision: int, key_revision: int | None
    ) -> tuple[Catalog | None, int, Sequence[KeyRecord] | None]:
        catalog: Catalog | None = None
        if self._catalog_source.revision() != catalog_revision:
            catalog = self._catalog_source.current()
        # The revision is read first: keys that change in between are read again next time.
        revision = self._key_source.revision()
        keys = self._key_source.all() if revision != key_revision else None
        return catalog, revision, keys

    def _fail(self, error: Exception) -> None:
        failure = type(error).__name__
        if self.failure != failure:
            log.warning("sql_unreachable", error=str(error))
        self.failure = failure
