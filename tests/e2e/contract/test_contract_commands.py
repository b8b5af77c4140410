"""Section 14: the commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import REPOSITORY, Service, cli, environment


def failing(service: Service, *args: str, url: str | None = None) -> tuple[int, str]:
    """Exit code and output of a command that is expected to fail."""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main", *args],
        env=environment(url=url or service.url, key=service.key) | {"COLUMNS": "200"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("products:\n  q: {name: Q}\n  r:\n    name: R\n    colour: red\n", ":5", "colour"),
        ("products:\n  q: {name: Q, meter: none}\n", ":2", "none"),
        ("products:\n  q: {name: Q\n  r: [\n", ":3", ""),
        ("products:\n  q: {name: Q}\n  q: {name: R}\n", ":3", "twice"),
    ],
)
def test_a_wrong_file_is_named(
    service: Service, tmp_path: Path, content: str, where: str, what: str
) -> None:
    """File, line and field; exit 1; nothing of any file is applied."""
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    right.write_text("products: {never: {name: Never}}\n")
    wrong.write_text(content)
    code, output = failing(service, "apply", str(right), str(wrong))

    assert code == 1
    assert f"wrong.yaml{where}" in output
    assert what in output
    assert service.client.get("/v1/products/never").status_code == 404


def test_prune_retires_what_the_files_leave_out(service: Service, tmp_path: Path) -> None:
    """A dry run shows it and changes nothing."""
    path = tmp_path / "one.yaml"
    path.write_text("products: {only: {name: Only}}\n")
    shown = cli(service, "apply", str(path), "--prune", "--dry-run")

    assert "- customers acme" in shown
    assert "nothing was changed" in shown
    assert service.client.get("/v1/customers/acme").status_code == 200


def test_an_import_counts_once(service: Service, tmp_path: Path) -> None:
    """The second time everything is a duplicate, and the output says so."""
    rows, mapping = tmp_path / "rows.csv", tmp_path / "map.yaml"
    rows.write_text("who,n,at\nhe,1,2026-03-01T00:00:00Z\nshe,2,2026-03-02T00:00:00Z\n")
    mapping.write_text(
        "id: 'row-{row}'\nsource: rows\ntype: embedding\nsubject: '{who}'\n"
        "time: {column: at, unit: rfc3339}\ndata: {n: n}\n"
    )
    first = cli(service, "import", str(rows), "--map", str(mapping))
    second = cli(service, "import", str(rows), "--map", str(mapping))
    assert re.search(r"accepted.*duplicates.*rejected(.|\n)* 2 \W+ 0 \W+ 0 ", first), first
    assert re.search(r"accepted.*duplicates.*rejected(.|\n)* 0 \W+ 2 \W+ 0 ", second), second
    assert "Nothing changed" in second


def test_commands_show_every_format(service: Service) -> None:
    """Tables for people, the service's own bytes for programs."""
    query = ("--period", "2026-02", "--contract", "acme")
    table, text = cli(service, "totals", *query), cli(service, "totals", *query, "--format", "json")
    csv = cli(service, "totals", *query, "--format", "csv")
    rows = json.loads(text)["items"]

    assert rows[0]["amount"] in table
    assert csv.startswith("line_id,customer,contract")
    assert len(csv.splitlines()) == len(rows) + 1
    explained = cli(service, "explain", rows[0]["line_id"])
    assert rows[0]["amount"] in explained
    invoices = json.loads(cli(service, "invoices", *query, "--format", "json"))
    shown = cli(service, "invoices", *query)
    assert all(each["total"] in shown for each in invoices)


def test_commands_say_what_is_wrong(service: Service) -> None:
    """A wrong period, a service that is down, an address that is none: one clear line."""
    assert failing(service, "totals", "--period", "2026-99")[0] == 1
    assert "no line" in failing(service, "explain", "nothing")[1]
    code, output = failing(service, "totals", "--period", "2026", url="http://127.0.0.1:1")
    assert (code, "nothing answers at http://127.0.0.1:1" in output) == (2, True)
    code, output = failing(service, "totals", "--period", "2026", url="nonsense")
    assert (code, "TALLYMAN_URL" in output) == (2, True)
