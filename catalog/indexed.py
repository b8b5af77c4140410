"""What follows from a catalog alone, worked out once for each catalog that is asked about."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from catalog.snapshot import Catalog

T = TypeVar("T")

CATALOGS_KEPT_MAX = 8


class PerCatalog(Generic[T]):
    """A function of a catalog that remembers its last answers. Thread-safe.

    Catalogs are told apart by identity: they are immutable, and comparing them costs more than the
    answer. What is answered is shared, so it must not be changed either.
    """

    def __init__(self, make: Callable[[Catalog], T], *, kept_max: int = CATALOGS_KEPT_MAX) -> None:
        self._make = make
        self._kept_max = kept_max
        self._kept: OrderedDict[int, tuple[Catalog, T]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, catalog: Catalog) -> T:
        """What the function gives for ``catalog``."""
        with self._lock:
            found = self._kept.get(id(catalog))
        if found is not None and found[0] is catalog:
            return found[1]
        made = self._make(catalog)
        with self._lock:
            self._kept[id(catalog)] = catalog, made
            self._kept.move_to_end(id(catalog))
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return made
