"""verify, rebuild and keys: against a running service, and on the data of a stopped one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from catalog.events import RecordKind
from tests.e2e.harness import (
    REPOSITORY,
    Service,
    end_service,
    environment,
    running_service,
    start_service,
)

CATALOG = {
    "meters": {"units": {"event_type": "used", "aggregation": "sum", "value": "data.units"}},
    "features": {"units": {"kind": "metered", "meter": "units"}},
    "products": {"units": {"name": "Units", "meter": "units"}},
    "pricebooks": {
        "b": {
            "currency": "USD",
            "invoicing": {"timing": "arrears", "every_months": 1},
            "prices": [{"product": "units", "charge": {"model": "per_unit", "unit_price": "0.01"}}],
            "entitlements": [{"feature": "units", "amount": "100000", "limit": "hard"}],
        }
    },
    "customers": {"acme": {"name": "Acme", "subjects": ["acme"]}},
    "contracts": {"acme": {"customer": "acme", "pricebook": "b", "start": "2026-01-01"}},
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Small hot files, so that a few bodies make a few segments.
SEALING = {"log__hot_bytes_max": "65536"}
BODIES, EVENTS = 4, 800
REBUILDING_S, DROPPED = 3.0, ["facts", "clickhouse"]


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str


def tallyman(*args: str | Path, **settings: str) -> Answer:
    """Run a command; it may fail."""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main", *map(str, args)],
        cwd=REPOSITORY,
        env=environment(**settings) | {"COLUMNS": "250"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def asking(service: Service, *args: str | Path) -> Answer:
    """Run a command against a service."""
    return tallyman(*args, url=service.url, key=service.key)


def fill(service: Service) -> None:
    """A priced customer with enough usage for several segments, a retry and a void."""
    service.post("/v1/catalog", {"document": CATALOG})
    for body in range(BODIES):
        events = [
            {
                "id": f"{body}-{number}",
                "source": "test",
                "type": "used",
                "subject": "acme",
                "time": "2026-01-10T00:00:00Z",
                "data": {"units": number % 7, "padding": f"{body * number:040d}"},
            }
            for number in range(EVENTS)
        ]
        assert service.post("/v1/events", events)["accepted"] == EVENTS
    service.post("/v1/events/void", [{"source": "test", "id": "0-6", "reason": "a test"}])


def totals(service: Service, **asked: str) -> dict[str, Any]:
    """January, in full."""
    return service.get("/v1/totals", period="2026-01", **asked)


def wait_sealed(service: Service) -> None:
    """Until segments exist, and their facts."""
    from tests.e2e.harness import wait_for

    def both() -> bool:
        segments = list(service.data.glob("nodes/n1/segment-*.parquet"))
        facts = [path for path in service.data.glob("facts/*") if path.name != "voids"]
        written = [len(list(path.glob("*.parquet"))) for path in facts]
        return len(segments) > 1 and written == [len(segments)]

    wait_for(both, what="sealed", within_s=30, explain=service.explain)


@dataclass(frozen=True)
class Rested:
    """The data of a service that was stopped, and what it last said."""

    data: Path
    as_of: str
    checksum: str


@pytest.fixture(scope="module")
def serving() -> Iterator[Service]:
    """One running service with usage in it, for all the tests that ask one."""
    with running_service(settings=SEALING) as service:
        fill(service)
        yield service


@pytest.fixture(scope="module")
def rested(serving: Service) -> Rested:
    """The same service stopped, for the tests after those: do not write to it, take a copy."""
    wait_sealed(serving)
    told = totals(serving)
    serving.stop()
    return Rested(data=serving.data, as_of=told["as_of"], checksum=told["checksum"])


@pytest.fixture
def data(rested: Rested) -> Iterator[Path]:
    """A copy of the stopped service's data, to be damaged."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    sockets = shutil.ignore_patterns("*.sock")
    shutil.copytree(rested.data, parent / "d", ignore=sockets, symlinks=True)
    yield parent / "d"
    shutil.rmtree(parent, ignore_errors=True)


def test_verify_asks_the_service(serving: Service) -> None:
    """Exit 0 and every check, as a table or as JSON."""
    shown = asking(serving, "verify")
    assert shown.code == 0, shown
    assert "No difference" in shown.out
    told = asking(serving, "verify", "--format", "json")
    report = json.loads(told.out)
    assert report["ok"]
    assert {check["store"] for check in report["checks"]} == {
        *("log", "facts", "cells", "clickhouse", "compensations", "ledger", "books", "audit")
    }


def test_rebuild_changes_no_answer(serving: Service) -> None:
    """Every store is dropped and replayed; totals, balances and verify say the same."""
    before = totals(serving)
    balance = serving.get("/v1/customers/acme/entitlements/units")
    done = asking(serving, "rebuild", "cells,clickhouse,facts,ledger")
    assert done.code == 0, done
    assert [line.split(":")[0] for line in done.out.splitlines()] == [
        *("cells", "clickhouse", "facts", "ledger")
    ]
    serving.wait_ready()
    after = totals(serving, as_of=before["as_of"])
    assert after == before | {"watermark": after["watermark"]}
    assert asking(serving, "verify").code == 0
    again = serving.get("/v1/customers/acme/entitlements/units")
    assert (again["used"], again["balance"]) == (balance["used"], balance["balance"])


def test_no_answer_is_short_beside_rebuilds(serving: Service) -> None:
    """Questions asked while stores are dropped are answered as before, or told to come again."""
    asked: list[tuple[str, dict[str, str | bool]]] = [
        ("/v1/totals", {"period": "2026-01"}),
        ("/v1/meters/units/usage", {"group_by": "customer"}),
        ("/v1/events", {"limit": "1000", "subject": "acme"}),
    ]
    before = [serving.get(path, **params)["items"] for path, params in asked]
    answered, ended = 0, time.monotonic() + REBUILDING_S
    while time.monotonic() < ended or not answered:
        with ThreadPoolExecutor() as pool:
            dropping = pool.submit(serving.post, "/v1/admin/rebuild", {"stores": DROPPED})
            answers = [pool.submit(serving.client.get, path, params=p) for path, p in asked * 3]
            dropping.result()
        for question, answer in enumerate(answers):
            told = answer.result()
            if told.status_code == 503:
                assert told.json()["code"] == "readers_behind", told.text
                continue
            assert told.json()["items"] == before[question % len(asked)]
            answered += 1


def test_an_unknown_store_is_named(serving: Service) -> None:
    """Nothing is dropped, and what there is is listed."""
    refused = asking(serving, "rebuild", "facts,click")
    assert refused.code == 1
    assert "cells, clickhouse, copies, facts, ledger" in refused.err


def test_a_lost_facts_file_is_found_while_serving(serving: Service) -> None:
    """Verify names the store instead of failing; a rebuild heals it."""
    wait_sealed(serving)
    [spec] = [path for path in serving.data.glob("facts/*") if path.name != "voids"]
    min(spec.glob("*.parquet")).unlink()
    found = asking(serving, "verify", "--format", "json")
    assert found.code == 1, found
    bad = [check for check in json.loads(found.out)["checks"] if check["status"] != "ok"]
    # What is lost cannot be rated either: totals are not made, and say so.
    assert (bad[0]["store"], bad[0]["status"]) == ("facts", "different")
    assert {(check["store"], check["status"]) for check in bad[1:]} <= {
        ("cells", "different"),  # what they were made of is gone
        ("cells", "unavailable"),
        ("books", "unavailable"),
    }
    assert asking(serving, "rebuild", "facts").code == 0
    assert asking(serving, "verify").code == 0


def test_keys_are_made_listed_and_revoked(serving: Service) -> None:
    """The printed text works until it is revoked; the list never shows it."""
    made = asking(serving, "keys", "create", "reports", "--scope", "read")
    text = made.out.splitlines()[-1]
    assert made.code == 0
    assert tallyman("totals", "--period", "2026-01", url=serving.url, key=text).code == 0
    assert tallyman("keys", "list", url=serving.url, key=text).code == 1
    listed = json.loads(asking(serving, "keys", "list", "--format", "json").out)
    [key] = [key for key in listed if key["name"] == "reports"]
    assert text not in json.dumps(listed)
    assert asking(serving, "keys", "revoke", key["id"]).code == 0
    refused = tallyman("totals", "--period", "2026-01", url=serving.url, key=text)
    assert refused.code == 1
    assert "Set TALLYMAN_KEY" in refused.err


@pytest.mark.parametrize("command", [["verify"], ["rebuild", "facts"]])
def test_a_directory_in_use_is_one_clear_sentence(serving: Service, command: list[str]) -> None:
    """Who holds it, and what to do instead; exit 2, for nothing was compared."""
    refused = tallyman(*command, "--data", serving.data)
    assert refused.code == 2
    assert refused.out == ""
    assert refused.err.startswith("error: another tallyman (process ")
    assert refused.err.rstrip().endswith("leave --data out to ask that service")
    assert refused.err.count("\n") == 1


def test_a_directory_without_a_service_is_said_so(tmp_path: Path) -> None:
    """Nothing is made there."""
    refused = tallyman("verify", "--data", tmp_path / "nothing")
    assert refused.code == 1
    assert "no service ever ran" in refused.err
    assert not (tmp_path / "nothing").exists()


def test_a_stopped_service_verifies_offline(data: Path) -> None:
    """The log, facts and ClickHouse; the private ledger lives only while the service does."""
    told = tallyman("verify", "--data", data, "--format", "json")
    assert told.code == 0, told
    report = json.loads(told.out)
    made = {(check["store"], check["check"]) for check in report["checks"]}
    assert made == {
        *(("log", "segments"), ("facts", "voids"), ("facts", "facts"), ("facts", "coverage")),
        *(("clickhouse", "events"), ("clickhouse", "voids"), ("clickhouse", "facts")),
        *(("books", "closed_lines"), ("books", "periods")),
        *(("books", "numbers"), ("books", "invoices")),
        *(("cells", "cells"), ("compensations", "copies"), ("audit", "chain")),
    }


def test_a_flipped_bit_is_found_offline(data: Path) -> None:
    """One bit of a sealed segment: exit 1, and the segment's first record is named."""
    segment = sorted(data.glob("nodes/n1/segment-*.parquet"))[1]
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    found = tallyman("verify", "--data", data)
    assert found.code == 1, found
    first = int(segment.stem.split("-")[1])
    assert f"First difference: check segments, store log, node n1, seq {first}:" in found.out


def test_a_missing_facts_file_is_found_offline(data: Path) -> None:
    """Even the last one: the first record without facts is named, and a rebuild heals it."""
    [spec] = [path for path in data.glob("facts/*") if path.name != "voids"]
    file = max(spec.glob("*.parquet"))
    file.unlink()
    found = tallyman("verify", "--data", data, "--format", "json")
    assert found.code == 1, found
    bad = [check for check in json.loads(found.out)["checks"] if check["status"] != "ok"]
    first = int(file.stem.split("-")[1])
    assert [check["first_difference"] for check in bad] == [
        {"check": "coverage", "store": "facts", "node": "n1", "seq": first}
    ]
    assert tallyman("rebuild", "facts", "--data", data).code == 0
    assert tallyman("verify", "--data", data).code == 0


def test_a_backup_is_the_log_and_sql(rested: Rested) -> None:
    """Only those are copied; everything else is rebuilt, and the totals are the same bytes."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    restored = parent / "d"
    try:
        without_index = shutil.ignore_patterns("index")
        shutil.copytree(rested.data / "nodes", restored / "nodes", ignore=without_index)
        for name in ("catalog.sqlite", "instance"):
            shutil.copy(rested.data / name, restored / name)
        rebuilt = tallyman("rebuild", "clickhouse,facts,cells,ledger", "--data", restored)
        assert rebuilt.code == 0, rebuilt
        assert "rebuilt whenever the service starts" in rebuilt.err
        assert tallyman("verify", "--data", restored).code == 0
        service = start_service(restored)
        try:
            service.wait_ready()
            assert totals(service, as_of=rested.as_of)["checksum"] == rested.checksum
            again = {"id": "0-0", "source": "test", "type": "used", "subject": "acme"}
            again |= {"time": "2026-01-10T00:00:00Z", "data": {"units": 0, "padding": "0" * 40}}
            assert service.post("/v1/events", again)["duplicates"] == 1
        finally:
            end_service(service)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def test_sealed_segments_and_sql_are_a_backup(rested: Rested) -> None:
    """Copied while the service runs: what is sealed is all there, and everything is rebuilt."""
    parent = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    restored = parent / "d"
    try:
        (restored / "nodes" / "n1").mkdir(parents=True)
        for segment in rested.data.glob("nodes/n1/segment-*"):
            shutil.copy(segment, restored / "nodes" / "n1")
        for name in ("catalog.sqlite", "instance"):
            shutil.copy(rested.data / name, restored / name)
        service = start_service(restored)
        try:
            service.wait_ready()
            told = service.get("/v1/meters/units/usage")["items"]
            assert [row["value"] for row in told] == [str(sealed_units(restored))]
            assert asking(service, "verify").code == 0
        finally:
            end_service(service)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def sealed_units(data: Path) -> int:
    """The sum a person would make of the archive."""
    records = pl.read_parquet(data / "nodes" / "n1" / "segment-*.parquet")
    events = records.filter(pl.col("kind") == RecordKind.EVENT.value)
    gone = records.filter(pl.col("kind") == RecordKind.VOID.value)["target"]
    counted = events.filter(~pl.col("seq").is_in(gone.to_list()))
    return sum(json.loads(text)["units"] for text in counted["data"])


def test_keys_can_be_made_for_a_stopped_service(data: Path) -> None:
    """How one gets in again after the last key was lost."""
    made = tallyman("keys", "create", "spare", "--scope", "admin", "--data", data)
    assert made.code == 0, made
    assert made.out.splitlines()[-1].startswith("tm_")
    listed = json.loads(tallyman("keys", "list", "--data", data, "--format", "json").out)
    ids = {key["name"]: key["id"] for key in listed}
    assert tallyman("keys", "revoke", ids["first key"], "--data", data).code == 0
    kept = tallyman("keys", "revoke", ids["spare"], "--data", data)
    assert kept.code == 1
    assert "last admin key" in kept.err
