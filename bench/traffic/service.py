"""The service as a run sees it from outside: given its catalog, and asked what it counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx

from bench.traffic.business import METER_CALLS, METER_EVENTS, document
from bench.traffic.run import Run
from bench.traffic.samples import Tally
from bench.traffic.verdict import Counted

SETTLES_S_MAX = 120.0
"""Until readers have applied what was acknowledged last, after a run."""

VISIBLE_S_MAX = 60.0


class NotPrepared(Exception):
    """The service cannot be loaded: not reached, no key, or the catalog was refused."""


def client_of(host: str | None, run: Run) -> httpx.Client:
    """A plain client, for what is not measured.

    Raises:
        NotPrepared: there is no host.
    """
    if not host:
        raise NotPrepared("name the deployment by --host")
    return httpx.Client(base_url=host, headers=run.headers, timeout=60)


def prepare(client: httpx.Client, run: Run, *, apply: bool) -> None:
    """Apply the load's catalog, unless it is there, and wait until decisions know of it.

    Raises:
        NotPrepared: the service is not there or says no.
    """
    try:
        if apply:
            _apply(client, document(run.customers))
        _wait_until_known(client)
    except httpx.HTTPError as error:
        raise NotPrepared(f"{client.base_url}: {error}") from error


def _apply(client: httpx.Client, catalog: dict[str, Any]) -> None:
    answer = client.post("/v1/catalog", json={"document": catalog})
    if answer.status_code != 200:
        raise NotPrepared(f"the catalog was refused: {answer.status_code} {answer.text[:500]}")


def _wait_until_known(client: httpx.Client) -> None:
    """Every gateway reads the new catalog within moments; ask until one decides by it."""
    items = [{"feature": METER_CALLS, "amount": "1"}]
    deadline_s = time.monotonic() + VISIBLE_S_MAX
    while time.monotonic() < deadline_s:
        asked = {"checks": [{"customer": "load-1", "items": items}]}
        answer = client.post("/v1/entitlements/check", json=asked)
        if answer.status_code == 200 and answer.json()["results"][0]["allowed"]:
            return
        time.sleep(0.1)
    raise NotPrepared(f"no decisions by the new catalog: {answer.status_code} {answer.text[:500]}")


def count_back(client: httpx.Client, run: Run) -> list[Counted]:
    """What the service counts of this run, once its readers had the time to see all of it."""
    return [
        _counted(client, run, what="events", tally=Tally.EVENTS, meter=METER_EVENTS),
        _counted(client, run, what="calls consumed", tally=Tally.CALLS, meter=METER_CALLS),
    ]


def _counted(client: httpx.Client, run: Run, *, what: str, tally: Tally, meter: str) -> Counted:
    def now() -> Counted:
        return Counted(
            what=what,
            acknowledged=run.samples.total(tally, "acknowledged"),
            unanswered=run.samples.total(tally, "unanswered"),
            counted=_usage(client, run, meter),
        )

    deadline_s = time.monotonic() + SETTLES_S_MAX
    while not (found := now()).agrees and time.monotonic() < deadline_s:
        time.sleep(0.5)
    return found


def _usage(client: httpx.Client, run: Run, meter: str) -> int | None:
    """The meter's value of this run; None when it cannot be asked at the moment."""
    try:
        rows = [row for page in _pages(client, run, meter) for row in page]
    except (httpx.HTTPError, KeyError, ValueError):
        return None
    found = [row["value"] for row in rows if row["dimensions"].get("run") == run.id]
    return sum(map(int, found))


def _pages(client: httpx.Client, run: Run, meter: str) -> Iterator[list[dict[str, Any]]]:
    since = datetime.fromtimestamp(run.samples.span()[0] - 60, UTC).isoformat()
    params = {"group_by": "run", "from": since, "limit": "1000"}
    while True:
        answer = client.get(f"/v1/meters/{meter}/usage", params=params)
        page = answer.raise_for_status().json()
        yield page["items"]
        if page["next_cursor"] is None:
            return
        params["cursor"] = page["next_cursor"]
