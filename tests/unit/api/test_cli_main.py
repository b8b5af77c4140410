"""The command line: every command is there, and nothing is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

from api.cli.main import COMMANDS, app
from tests.e2e.harness import REPOSITORY


def test_help_lists_every_command_and_imports_none() -> None:
    """What makes a start slow (polars, SQLAlchemy, FastAPI) is not touched."""
    code = (
        "import sys; from typer.testing import CliRunner; from api.cli.main import app;"
        "print(CliRunner().invoke(app, ['--help']).output);"
        "print(sorted({'polars', 'sqlalchemy', 'fastapi', 'httpx'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout

    assert shown.strip().endswith("[]")
    assert all(f" {name} " in shown for name in [*COMMANDS, "version"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_lazy_command_can_be_loaded(name: str) -> None:
    """Its own help is shown, with its own name and options."""
    shown = CliRunner().invoke(app, [name, "--help"])

    assert shown.exit_code == 0, shown.output
    assert f"tallyman {name}" in shown.output or f"root {name}" in shown.output
    command = COMMANDS[name]
    found = getattr(import_module(command.module), command.attribute)
    assert isinstance(found, typer.Typer) or found.__doc__.partition("\n")[0][:20] in shown.output


def test_an_unknown_command_is_refused() -> None:
    """With the exit code for wrong usage."""
    assert CliRunner().invoke(app, ["no-such-command"]).exit_code == 2


def test_a_setting_out_of_bounds_is_named() -> None:
    """The service ends with 78 before it touches anything."""
    refused = CliRunner().invoke(app, ["serve", "--port", "70000"])

    assert refused.exit_code == 78
    assert "port" in refused.output
