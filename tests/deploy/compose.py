"""``docker-compose.yml`` as a Docker engine would read it: parsed, variables put in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")


class Unset(KeyError):
    """A variable that must be given is not."""


def compose(**variables: str) -> dict[str, Any]:
    """The whole file. ``$${`` escapes are not used and not known.

    Raises:
        Unset: the file requires a variable that is not among ``variables``.
    """
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return dict(_interpolated(loaded, variables))


def _interpolated(value: Any, variables: dict[str, str]) -> Any:
    match value:
        case str():
            return _VARIABLE.sub(lambda found: _value(found, variables), value)
        case dict():
            return {key: _interpolated(each, variables) for key, each in value.items()}
        case list():
            return [_interpolated(each, variables) for each in value]
        case _:
            return value


def _value(found: re.Match[str], variables: dict[str, str]) -> str:
    name, operator, rest = found.groups()
    if given := variables.get(name):
        return given
    if operator and operator.endswith("-"):
        return str(rest)
    raise Unset(f"{name}: {rest or 'required'}")


def option_of(command: list[str], name: str) -> str:
    """What follows an option in a command line."""
    return command[command.index(name) + 1]
