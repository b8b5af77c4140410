"""Keys over two processes: revocation, and what the logs never hold."""

from __future__ import annotations

import re
import time
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families

from catalog.keys import KeyId
from storage.clock import open_clock
from storage.sql.database import open_database
from storage.sql.keys import KeyStore
from tests.e2e.harness import Service
from tests.e2e.trust.keys import KeyChain

WITHIN_S = 1.0
CONNECTIONS = 40
MARK = "zx81-secret-payload"


def answers(service: Service, key: str) -> list[int]:
    """The status of the same request on many fresh connections: both gateways take some."""
    found = []
    host = service.url.removeprefix("http://")
    for _ in range(CONNECTIONS):
        connection = HTTPConnection(host, timeout=10)
        connection.request("GET", "/v1/meters", headers={"authorization": f"Bearer {key}"})
        found.append(connection.getresponse().status)
        connection.close()
    return found


def refusals_by_process(service: Service) -> dict[str, float]:
    """How many 401 each process has answered."""
    text = service.client.get("/metrics").text
    counts: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "tallyman_http_requests_total" and sample.labels["status"] == "401":
                process = sample.labels["process"]
                counts[process] = counts.get(process, 0) + sample.value
    return counts


@pytest.mark.slow
def test_a_key_is_closed_everywhere_within_a_second(service: Service, keys: KeyChain) -> None:
    """Revoked behind the gateways' backs (as from another machine), no process takes it after."""
    key = keys.make(scopes=["read"])
    assert set(answers(service, key)) == {200}
    before = refusals_by_process(service)
    database = open_database(f"sqlite:///{service.data}/catalog.sqlite")
    try:
        store = KeyStore(database, open_clock(service.data, sandbox=True))
        store.revoke(KeyId(key.split("_")[1]))
    finally:
        database.close()
    time.sleep(WITHIN_S)
    assert set(answers(service, key)) == {401}
    after = refusals_by_process(service)
    assert all(after.get(node, 0) > before.get(node, 0) for node in ("n1", "n2")), after


@pytest.mark.slow
def test_a_revocation_answers_when_every_gateway_knows(service: Service, keys: KeyChain) -> None:
    """Through the API there is no second to wait."""
    for _ in range(3):
        key = keys.make(scopes=["read"])
        assert set(answers(service, key)[:6]) == {200}
        keys.revoke(key.split("_")[1])
        assert set(answers(service, key)[:12]) == {401}


def test_logs_hold_no_key_and_no_event(service: Service, keys: KeyChain) -> None:
    """At debug, over all of this package and whatever goes wrong with events that carry data."""
    event = {
        "specversion": "1.0",
        "id": MARK + "-id",
        "source": "tests",
        "type": "tokens",
        "subject": "acme-1",
        "data": {"n": MARK},
    }
    client = service.client
    client.post("/v1/events", json=[event | {"data": {"n": "1", "note": MARK}}])
    client.post("/v1/events", json=[event])  # a value that cannot be read
    as_json = {"content-type": "application/json"}
    client.post("/v1/events", content=b'[{"data": "' + MARK.encode(), headers=as_json)
    client.post("/v1/events", content=MARK, headers={"content-type": "text/" + MARK})
    client.post("/v1/events/void", json=[{"source": "tests", "id": MARK}])
    client.get("/v1/events/tests/" + MARK)
    client.get("/v1/meters", params={MARK: MARK})
    client.put("/v1/meters/m", json={MARK: MARK})
    client.post("/v1/customers/acme/entitlements/consume", json={"key": MARK, "items": []})
    client.get("/v1/meters", headers={"authorization": f"Bearer {MARK}{MARK}"})
    time.sleep(0.5)
    logs = service.logs()
    assert "debug" in logs or "info" in logs, "nothing was logged: this shows nothing"
    assert MARK not in logs
    secrets = [re.split("_", text)[2] if text.startswith("tm_") else text for text in keys.texts]
    assert [text for text in secrets if text in logs] == []
