"""Which Tallyman this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("tallyman")
except PackageNotFoundError:  # a source tree that is not installed
    VERSION = "0+unknown"
