"""Where a soak's limits are."""

from __future__ import annotations

from pathlib import Path

LIMITS = Path(__file__).with_name("limits.toml")
