"""The root of every anticipated error.

A :class:`DomainError` carries a stable ``code`` and data, never an HTTP status: the edge maps
classes to statuses in one table (``api/problems.py``). Each subclass lives beside what raises it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One wrong place in a document the caller sent.

    ``pointer`` is an RFC 6901 JSON pointer into that document ("" is the whole of it).
    """

    pointer: str
    detail: str


class DomainError(Exception):
    """An anticipated failure that the caller can understand and act on."""

    code: ClassVar[str] = "error"

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class NotFound(DomainError):
    """The thing that was named does not exist (or did not, at the ``as_of`` asked for)."""

    code = "not_found"


class Conflict(DomainError):
    """The request contradicts what is there."""

    code = "conflict"


class InvalidRequest(DomainError):
    """The request can be read, and a field of it is wrong."""

    code = "invalid_request"


class OutOfRange(DomainError):
    """A number lies beyond what is promised to be exact; nothing was rounded or wrapped."""

    code = "out_of_range"


class Unavailable(DomainError):
    """A part that is needed to answer is not ready; the same request may succeed later."""

    code = "unavailable"

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
