"""Both SQL engines as one parameter: ``@pytest.fixture(params=ENGINES)`` with :func:`fresh_url`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres import fresh_database

ENGINES = ("sqlite", "postgresql")


@contextmanager
def fresh_url(engine: str, directory: Path) -> Iterator[str]:
    """The URL of an empty database of ``engine``; SQLite keeps its file in ``directory``."""
    if engine == "sqlite":
        yield f"sqlite:///{directory}/catalog.sqlite"
        return
    with fresh_database() as url:
        yield url
