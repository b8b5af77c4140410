"""API keys: how they look, what is kept of them, and what they allow.

A key reads ``tm_<id>_<secret>_<crc>``. The id may be shown and logged; the CRC-32 lets a typo or
a cut-off paste be told from a revoked key without asking the database. Only the SHA-256 of the
whole text is kept: with 160 random bits behind it there is nothing to guess, so nothing slower
is needed. A key chosen by the operator (``TALLYMAN_ADMIN_KEY``) may be any text of 32 characters.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b32encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from catalog.clock import Micros

KeyId = NewType("KeyId", str)

PREFIX = "tm"
ID_BYTES = 10
SECRET_BYTES = 20
RANDOM_BYTES = ID_BYTES + SECRET_BYTES


class Scope(StrEnum):
    """What a key may do. ``admin`` implies all the others."""

    INGEST = "ingest"
    READ = "read"
    ENTITLEMENTS = "entitlements"
    CATALOG = "catalog"
    FINANCE = "finance"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What is kept of a key. It works in ``[created_at, expires_at)`` until ``revoked_at``.

    ``customers`` or ``sources`` (never both) limit what it reaches; null: everything its scopes
    allow.
    """

    id: KeyId
    digest: bytes
    name: str
    scopes: frozenset[Scope]
    created_at: Micros
    expires_at: Micros | None = None
    revoked_at: Micros | None = None
    customers: frozenset[str] | None = None
    sources: frozenset[str] | None = None

    def is_live(self, now: int) -> bool:
        """Whether the key opens anything at ``now``. A revoked key never does again."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def allows(self, scope: Scope) -> bool:
        """Whether the key has ``scope``, or all of them."""
        return allows(self.scopes, scope)


def allows(scopes: Iterable[str], scope: str) -> bool:
    """Whether ``scopes`` include ``scope``, by name or through ``admin``."""
    held = frozenset(scopes)
    return scope in held or Scope.ADMIN in held


def make_key(randomness: bytes) -> tuple[KeyId, str]:
    """This will shape :data:`RANDOM_BYTES` of fresh randomness into an id and the key's text."""
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"a key takes {RANDOM_BYTES} random bytes, not {len(randomness)}")
    identity = _text(randomness[:ID_BYTES])
    body = f"{PREFIX}_{identity}_{_text(randomness[ID_BYTES:])}"
    return KeyId(identity), f"{body}_{_checksum(body)}"


def key_id(text: str) -> KeyId | None:
    """The id inside a key's text, or None where the text is not one of ours or was damaged."""
    body, _, checksum = text.rpartition("_")
    parts = body.split("_")
    if len(parts) != 3 or parts[0] != PREFIX or checksum != _checksum(body):
        return None
    return KeyId(parts[1])


def key_digest(key: str | bytes) -> bytes:
    """What is stored of a key, and what a presented one (its bytes in the header) is found by."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def _text(data: bytes) -> str:
    return b32encode(data).decode().rstrip("=").lower()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
