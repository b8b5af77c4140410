"""Commands that are imported when they are run: ``tallyman --help`` stays fast."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


@dataclass(frozen=True, slots=True, kw_only=True)
class LazyCommand:
    """Where a command is: a function, or a ``typer.Typer`` with commands of its own."""

    module: str
    attribute: str
    help: str


def lazy_group(commands: dict[str, LazyCommand]) -> type[TyperGroup]:
    """A group class that also has ``commands``, shown by their help and imported when run."""

    class LazyGroup(TyperGroup):
        # typer brings its own copy of click, under a private name: hence Any.
        def list_commands(self, ctx: Any) -> list[str]:
            return [*super().list_commands(ctx), *commands]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in commands:
                return super().get_command(ctx, cmd_name)
            return TyperCommand(cmd_name, help=commands[cmd_name].help)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            if args and args[0] in commands:
                return args[0], _load(args[0], commands[args[0]]), args[1:]
            return super().resolve_command(ctx, args)

    return LazyGroup


def _load(name: str, command: LazyCommand) -> Any:
    found = getattr(import_module(command.module), command.attribute)
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(name)(found)
        found = app
    loaded = get_command(found)
    loaded.name = name
    return loaded
