"""The version of the rules by which lines are made."""

from __future__ import annotations

ENGINE = "2"
"""Bumped, with a changelog line, when any result may change."""
