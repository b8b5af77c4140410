"""Keys of every kind: by scope, limited, and the ones that open nothing any more."""

from __future__ import annotations

from typing import Any

import httpx

from catalog.keys import Scope, make_key
from tests.e2e.harness import Service

BY_CUSTOMER = ["entitlements", "finance", "read"]
BY_SOURCE = ["ingest", "read"]


class KeyChain:
    """Makes the keys; the clock of the sandbox moves on by a second for the expired one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.texts: list[str] = [service.key]
        self.scoped = {scope.value: self.make(scopes=[scope.value]) for scope in Scope}
        self.of_customer = self.make(scopes=BY_CUSTOMER, customers=["acme"])
        self.of_source = self.make(scopes=BY_SOURCE, sources=["tests"])
        expired = self.make(scopes=["admin"], expires_at="2026-03-15T12:00:01Z")
        service.post("/v1/admin/clock", {"now": "2026-03-15T12:00:02Z"})
        revoked = self.make(scopes=["admin"])
        listed = service.get("/v1/keys", limit=1_000)["items"]
        self.revoke(next(k["id"] for k in listed if k["id"] == revoked.split("_")[1]))
        valid = self.scoped["admin"]
        _, unknown = make_key(b"\7" * 30)
        self.dead = {
            "bad checksum": valid[:-1] + ("0" if valid[-1] != "0" else "1"),
            "unknown": unknown,
            "not ours": "x" * 40,
            "expired": expired,
            "revoked": revoked,
        }
        self._client = httpx.Client(base_url=service.url, timeout=30)

    def make(self, **fields: Any) -> str:
        """A new key's text."""
        made = self._service.post("/v1/keys", {"name": "k"} | fields)
        self.texts.append(made["key"])
        return str(made["key"])

    def revoke(self, identity: str) -> None:
        """Through a gateway."""
        assert self._service.client.delete(f"/v1/keys/{identity}").status_code == 204

    def ask(self, method: str, url: str, authorization: str | None, body: object) -> httpx.Response:
        """One request with that header, or none."""
        headers = {} if authorization is None else {"authorization": authorization}
        return self._client.request(method, url, headers=headers, json=body)

    def close(self) -> None:
        """End the connections."""
        self._client.close()
