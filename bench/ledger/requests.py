"""Requests for decisions: Zipf over ten thousand customers, written for the generator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench.ingest.servers import KEY

CUSTOMERS = 10_000
ZIPF = 1.1
_CONSUME = '{"items":[{"feature":"tokens","amount":"1"}],"key":"k-%d-%d"}'
_CHECK = '{"checks":[{"customer":"cust-%d","items":[{"feature":"tokens","amount":"1"}]}]}'


def customers_drawn(count: int, *, seed: int) -> list[int]:
    """``count`` customers, a few of them most of the time."""
    weights = 1.0 / np.arange(1, CUSTOMERS + 1) ** ZIPF
    drawn = np.random.default_rng(seed).choice(CUSTOMERS, count, p=weights / weights.sum())
    listed: list[int] = drawn.tolist()
    return listed


def checks(count: int, *, seed: int) -> Iterable[tuple[str, bytes]]:
    """Checks of one item of one customer."""
    for customer in customers_drawn(count, seed=seed):
        yield "/v1/entitlements/check", (_CHECK % customer).encode()


def consumes(count: int, *, seed: int) -> Iterable[tuple[str, bytes]]:
    """Consumes of one unit, each under a key of its own."""
    for number, customer in enumerate(customers_drawn(count, seed=seed)):
        path = f"/v1/customers/cust-{customer}/entitlements/consume"
        yield path, (_CONSUME % (seed, number)).encode()


def batch_check(count: int, *, seed: int) -> bytes:
    """One check of ``count`` customers."""
    listed = [
        f'{{"customer":"cust-{customer}","items":[{{"feature":"tokens","amount":"1"}}]}}'
        for customer in customers_drawn(count, seed=seed)
    ]
    return f'{{"checks":[{",".join(listed)}]}}'.encode()


def write_file(path: Path, requests: Iterable[tuple[str, bytes]]) -> int:
    """Write whole HTTP requests as the generator reads them; answers how many."""
    whole = [
        (
            f"POST {target} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        + body
        for target, body in requests
    ]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in whole])]).astype("<u8")
    with path.open("wb") as file:
        file.write(np.array([len(whole)], "<u8").tobytes())
        file.write(offsets.tobytes())
        file.writelines(whole)
    return len(whole)
