"""`tallyman apply` against the real routes over a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
import typer
import uvicorn
from click.testing import Result
from starlette.types import ASGIApp, Receive, Scope, Send
from typer.testing import CliRunner

from api.application import create_app
from api.cli.apply import apply_command, send_document
from api.cli.client import ApiClient
from api.cli.documents import load_documents
from api.parts import Worker
from api.routes.catalog import build_router
from catalog.changes import Unsupported, supported
from catalog.clock import FixedClock
from catalog.ids import Kind
from storage.sql.database import open_database
from storage.sql.statements import StatementStore

KEY = "the-key-of-this-test"
CATALOG = """\
meters:
  tokens: {event_type: llm, aggregation: sum, value: data.tokens}
products:
  1: {name: Tokens, meter: tokens}
pricebooks:
  list:
    currency: USD
    invoicing: {timing: arrears, every_months: 1}
    prices:
      - {product: 1, charge: {model: per_unit, unit_price: 0.00003}}
"""

app = typer.Typer()
app.command()(apply_command)


class Trusting:
    """Stands for the gateway: the right key has the scope catalog, others have none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the verdict."""
        if scope["type"] == "http":
            right = (b"authorization", f"Bearer {KEY}".encode()) in scope["headers"]
            scopes = (b"x-tallyman-scopes", b"catalog" if right else b"")
            scope = {**scope, "headers": [*scope["headers"], scopes]}
        await self._app(scope, receive, send)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StatementStore]:
    """The served catalog, empty."""
    database = open_database(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield StatementStore(database, FixedClock(10**15), ZoneInfo("UTC"))
    database.close()


@contextmanager
def served(store: StatementStore, *, unsupported: Unsupported = supported) -> Iterator[str]:
    """Where the catalog's routes are served, over a real socket."""
    router = build_router(
        store=store,
        clock=FixedClock(10**15),
        unsupported=unsupported,
        lines_to_rerate=lambda before, after: 0 if before.pricebooks == after.pricebooks else 7,
    )
    worker = create_app(Worker(socket=Path("unused"), routers=(router,)), version="test")
    config = uvicorn.Config(Trusting(worker), log_level="error", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def url(store: StatementStore) -> Iterator[str]:
    """Where the routes are served."""
    with served(store) as address:
        yield address


def run(url: str, *arguments: object, key: str = KEY) -> Result:
    """One run of the command."""
    environment = {"TALLYMAN_URL": url, "TALLYMAN_KEY": key, "COLUMNS": "200"}
    return CliRunner().invoke(app, [str(each) for each in arguments], env=environment)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good catalog file."""
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    return path


def test_a_file_is_applied_and_then_changes_nothing(
    url: str, store: StatementStore, file: Path
) -> None:
    """The digits of a price arrive as written; applying again is a no-op."""
    first = run(url, file)
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines() == [
        "+ meters tokens",
        "+ products 1",
        "+ pricebooks list",
        "3 created; 7 open lines will be re-rated",
    ]
    price = store.current().pricebooks["list"].last.prices[0]
    assert str(price.charge.unit_price) == "0.00003"
    again = run(url, file)
    assert (again.exit_code, again.stdout) == (0, "3 unchanged\n")
    assert store.revision() == 3


def test_a_dry_run_shows_what_differs(url: str, store: StatementStore, file: Path) -> None:
    """Each changed field is shown old → new, and nothing is changed."""
    run(url, file)
    file.write_text(CATALOG.replace("0.00003", "0.00004"))
    result = run(url, file, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "~ pricebooks list",
        "    prices[1].charge.unit_price  0.00003 → 0.00004",
        "1 updated, 2 unchanged; 7 open lines would be re-rated (dry run: nothing was changed)",
    ]
    assert store.revision() == 3


def test_mistakes_are_shown_with_file_and_line(
    url: str, store: StatementStore, file: Path, tmp_path: Path
) -> None:
    """Every mistake of every file, one a line, as editors link them."""
    other = tmp_path / "other.yaml"
    other.write_text("customers:\n  acme:\n    name: Acme\n    subjects: [a]\n    colour: red\n")
    file.write_text(CATALOG.replace("meter: tokens", "meter: tokens, name2: x"))
    result = run(url, file, other)
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"{file}:4: products.1.name2: ")
    assert lines[1].startswith(f"{other}:5: customers.acme.colour: ")
    assert lines[-1].startswith("nothing was changed: ")
    assert store.revision() == 0


def test_a_mistake_between_objects_has_its_line_too(url: str, file: Path) -> None:
    """A name of nothing is found by the service and still shown where it is written."""
    file.write_text(CATALOG.replace("product: 1", "product: 2"))
    result = run(url, file)
    assert result.exit_code == 1
    assert f"{file}:10: pricebooks.list.prices.0.product: " in result.stderr


def test_what_is_broken_elsewhere_has_no_line(url: str, file: Path) -> None:
    """A mistake in an object that no file names is not blamed on a line of its section."""
    grouped = CATALOG.replace("value: data.tokens", "value: data.tokens, dimensions: {m: data.m}")
    file.write_text(grouped.replace("product: 1, ", "product: 1, group_by: [m], "))
    assert run(url, file).exit_code == 0
    file.write_text(CATALOG.replace("list:", "another:"))
    result = run(url, file)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("pricebooks.list.prices.0.group_by")


def test_prune_shows_what_goes_and_retires_it(url: str, store: StatementStore, file: Path) -> None:
    """The list is printed before anything happens; nobody is asked where nobody is there."""
    run(url, file)
    file.write_text(CATALOG.partition("pricebooks:")[0])
    kept = run(url, file)
    assert kept.stdout == "2 unchanged\n"
    pruned = run(url, file, "--prune")
    assert pruned.exit_code == 0, pruned.output
    assert pruned.stderr.splitlines() == ["--prune retires 1:", "  - pricebooks list"]
    assert pruned.stdout.splitlines()[0] == "- pricebooks list"
    assert store.retired(Kind.PRICEBOOKS, upto=store.revision()) == {"list"}


def test_prune_applies_what_was_shown_or_nothing(file: Path) -> None:
    """The revision that was previewed is the one the second request insists on."""
    sent: list[dict[str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        reply = {"changes": [], "warnings": [], "revision": 41}
        return httpx.Response(200, json=reply)

    client = ApiClient("http://service", KEY, transport=httpx.MockTransport(answer))
    send_document(client, load_documents([file]), dry_run=False, prune=True, yes=False)
    assert [(each["dry_run"], each.get("expected_revision")) for each in sent] == [
        (True, None),
        (False, 41),
    ]


def test_json_is_the_answer_of_the_service(url: str, file: Path) -> None:
    """Scripts read the same document the API gives."""
    reply = json.loads(run(url, file, "--format", "json").stdout)
    assert [change["action"] for change in reply["changes"]] == ["create"] * 3
    assert reply["revision"] == 3


def test_a_service_that_is_not_there_is_one_clear_line(file: Path) -> None:
    """No traceback, exit code 2, and what to do."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    result = run(f"http://127.0.0.1:{port}", file)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"nothing answers at http://127.0.0.1:{port}" in result.stderr


def test_a_wrong_key_says_so(url: str, file: Path) -> None:
    """The problem document's detail is shown, with its status."""
    result = run(url, file, key="another-key")
    assert result.exit_code == 1
    assert "catalog" in result.stderr
    assert "403 forbidden" in result.stderr


def test_a_broken_file_never_reaches_the_service(file: Path) -> None:
    """YAML errors need no service to be found."""
    file.write_text("meters: {a: 1, a: 2}\n")
    result = run("http://127.0.0.1:1", file)
    assert result.exit_code == 1
    assert f"{file}:1: the key 'a' is there twice" in result.stderr
