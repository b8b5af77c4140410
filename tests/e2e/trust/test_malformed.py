"""Malformed bodies by the thousand: refused, never a 5xx, and memory stays where it is.

``MALFORMED_BODIES=1000000`` runs the million; the suite runs a sample.
"""

from __future__ import annotations

import os
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.harness import Service
from tests.e2e.pipelined import Pipelined, written

BODIES = int(os.environ.get("MALFORMED_BODIES", "1000"))
THREADS = 4
AHEAD = 16
GROWTH_BYTES_MAX = 96 * 1024**2
EVENT = (
    b'{"specversion":"1.0","id":"m","source":"malformed","type":"tokens","subject":"acme-1",'
    b'"time":"2026-01-10T00:00:00Z","data":{"n":"1","model":"gpt"}}'
)
TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
    "text/plain",
    "",
)
TARGETS = (
    ("POST", "/v1/events", b"[" + EVENT + b"]"),
    ("POST", "/v1/events?atomic=true", b"[" + EVENT + b"," + EVENT + b"]"),
    ("POST", "/v1/events/void", b'[{"source":"malformed","id":"m"}]'),
    (
        "POST",
        "/v1/customers/acme/entitlements/consume",
        b'{"key":"m","items":[{"feature":"tokens","amount":"1"}]}',
    ),
    ("POST", "/v1/entitlements/check", b'{"checks":[{"customer":"acme","items":[]}]}'),
    ("POST", "/v1/catalog", b'{"document":{"products":{"m":{"name":"M"}}},"dry_run":true}'),
    ("POST", "/v1/quotes", b'{"contract":"acme","usage":[]}'),
)
WEIGHTS = (30, 20, 15, 15, 14, 3, 3)
"""The worker answers the last two, at ten times the cost: enough of them, and time for the rest."""

TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\0", b"\n", b"\xff", b"\xed\xa0\x80"),
    *(b"1e999", b"NaN", b"-", b"null", b"9" * 400, b'{"a":' * 70, b'"\\ud800"'),
    b"1.0000000000001",
)


def mutated(seed: int) -> tuple[str, str, dict[str, str], bytes]:
    """One request, damaged in a way that depends on ``seed`` alone."""
    dice = random.Random(seed)
    [(method, path, whole)] = dice.choices(TARGETS, WEIGHTS)
    body = bytearray(whole)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(body) + 1)
        match dice.randrange(5):
            case 0:
                body[at : at + dice.randint(1, 20)] = b""
            case 1:
                body[at:at] = dice.choice(TOKENS)
            case 2:
                body[at : at + 1] = bytes([dice.randrange(256)])
            case 3:
                body[at:at] = body[: dice.randint(0, 60)]
            case _:
                del body[at:]
    headers = {"content-type": dice.choice(TYPES) if dice.random() < 0.3 else "application/json"}
    content = bytes(body)
    if dice.random() < 0.1:
        headers["content-encoding"] = dice.choice(("gzip", "zstd", "br"))
        content = zlib.compress(content, wbits=31) if dice.random() < 0.5 else content
    return method, path, headers, content


def resident_bytes(service: Service) -> int:
    """What all of the service's processes hold in memory."""
    found = 0
    for pid in service.pids():
        status = Path(f"/proc/{pid}/status").read_text()
        held = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        found += int(held.split()[1]) * 1024
    return found


def send(service: Service, seeds: range) -> Counter[int]:
    """Send a part of them over one connection, a handful ahead; answers the statuses."""
    connection = Pipelined(service.url.removeprefix("http://"))
    statuses: Counter[int] = Counter()
    for ahead in batched(seeds, AHEAD):
        answers = connection.ask([request(service, seed) for seed in ahead])
        for seed, answer in zip(ahead, answers, strict=True):
            statuses[answer.status] += 1
            assert answer.status < 500, (seed, answer)
            assert answer.status < 400 or b'"code"' in answer.body, (seed, answer)
    connection.close()
    return statuses


def request(service: Service, seed: int) -> bytes:
    """One of them as it is sent."""
    method, path, headers, body = mutated(seed)
    return written(method, path, headers | {"authorization": f"Bearer {service.key}"}, body)


def batched(seeds: range, size: int) -> Iterator[range]:
    """``seeds`` in order, so many at a time."""
    for at in range(0, len(seeds), size):
        yield seeds[at : at + size]


@pytest.mark.slow
@pytest.mark.timeout(120 + BODIES // 50)
def test_malformed_bodies_are_refused_and_forgotten(service: Service) -> None:
    """No 5xx, a code in every refusal, and the last half of them takes no more memory."""

    def burst(first: int, count: int) -> Counter[int]:
        share = count // THREADS
        parts = [range(first + n * share, first + (n + 1) * share) for n in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(pool.map(lambda part: send(service, part), parts), Counter())

    seen = burst(0, BODIES // 2)
    before = resident_bytes(service)
    seen += burst(BODIES, BODIES // 2)
    assert resident_bytes(service) < before + GROWTH_BYTES_MAX
    assert {200, 400, 422} <= set(seen), seen
    assert "request_failed" not in service.logs()
    service.wait_ready()
