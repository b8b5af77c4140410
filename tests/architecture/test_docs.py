"""The pages say what the code does: problem codes, settings, commands, links."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli.main import COMMANDS, app
from api.problems import PROBLEMS
from catalog.errors import DomainError
from catalog.events import RejectCode, UnmatchedReason
from catalog.keys import Scope
from tests.docs.metrics_page import metrics_page
from tests.docs.settings_page import settings_page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PACKAGES = (
    *("api", "storage", "outbound", "invoicing"),
    *("ingest", "rating", "entitlements", "catalog"),
)
# What these raise ends a command with a sentence; nothing there answers HTTP.
COMMANDS_ONLY = ("api.cli.", "api.service", "api.datadir")
PAGES = sorted({*DOCS.rglob("*.md"), *ROOT.glob("*.md")})


def page(name: str) -> str:
    """The text of one page."""
    return (DOCS / name).read_text()


def errors() -> Iterator[type[DomainError]]:
    """Every domain error there is."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if ".migrations" not in module.name:
                importlib.import_module(module.name)
    pending = [DomainError]
    while pending:
        kind = pending.pop()
        if kind.__module__.startswith(PACKAGES):
            yield kind
        pending += kind.__subclasses__()


def test_every_problem_has_its_section_and_status() -> None:
    """docs/problems.md and the table agree both ways."""
    sections = re.findall(r"^### `(\w+)` · (\d{3})$", page("problems.md"), re.MULTILINE)
    assert dict(sections) == {code: str(status) for code, (status, _) in PROBLEMS.items()}
    assert len(sections) == len(PROBLEMS)


def test_every_section_says_something() -> None:
    """A heading without a sentence under it is not documentation."""
    for code, text in re.findall(r"^### `(\w+)`.*\n(.*)$", page("problems.md"), re.MULTILINE):
        assert len(text.split()) > 2, code


def test_every_error_that_can_be_answered_is_in_the_table() -> None:
    """No code reaches a caller by way of its parent's row."""
    codes = {e.code: e.__module__ for e in errors() if not e.__module__.startswith(COMMANDS_ONLY)}
    assert {code: where for code, where in codes.items() if code not in PROBLEMS} == {}


def test_no_row_is_for_nothing() -> None:
    """A code in the table is raised somewhere, or made at the edge by name."""
    raised = {error.code for error in errors()}
    made = "".join(path.read_text() for path in (ROOT / "api").rglob("*.py"))
    edge = {code for code in PROBLEMS if made.count(f'"{code}"') > 1}
    assert set(PROBLEMS) - raised - edge == set()


def test_the_codes_of_events_are_documented() -> None:
    """Each rejection code has its row, each unmatched reason and scope its word."""
    rows = re.findall(r"^\| `(\w+)` \|", page("problems.md"), re.MULTILINE)
    assert [code.value for code in RejectCode] == rows
    for word in (*UnmatchedReason, *Scope):
        assert word.value in page("api.md")


def test_the_settings_page_is_generated() -> None:
    """docs/settings.md has exactly what api/settings.py says: defaults, bounds, meanings."""
    assert page("settings.md") == settings_page(), "run python -m tests.docs.settings_page"


def test_the_metrics_page_is_generated() -> None:
    """docs/metrics.md has every metric that a gateway or worker registers."""
    assert page("metrics.md") == metrics_page(), "run python -m tests.docs.metrics_page"


def test_every_command_is_on_a_page() -> None:
    """A command nobody can find out about is not there."""
    text = "\n".join(path.read_text() for path in PAGES)
    for name in COMMANDS:
        assert re.search(rf"(tallyman|make) {name}\b", text), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """Relative links name files that are there, and headings that are in them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = path.parent / name if name else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def help_of(*command: str) -> str:
    """What ``--help`` of a command prints."""
    done = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def shown_commands() -> Iterator[list[str]]:
    """Every ``tallyman …`` line in the pages' blocks."""
    for path in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if line.startswith("tallyman "):
                    yield line.partition(" #")[0].split()[1:]


def test_every_command_line_can_be_typed() -> None:
    """The commands on the pages exist, with the options they are shown with."""
    shown = list(shown_commands())
    assert {words[0] for words in shown} >= {"serve", "verify", "rebuild", "keys", "node"}
    for words in shown:
        command = words[:2] if words[0] in {"keys", "node", "exports"} else words[:1]
        told = help_of(*command)
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", told), " ".join(words)
