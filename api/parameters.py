"""Query parameters: what every route refuses alike."""

from __future__ import annotations

from catalog.errors import InvalidRequest


class UnknownParameter(InvalidRequest):
    """A query parameter is not one of the route's: a typo would silently change the answer."""

    code = "unknown_parameter"
