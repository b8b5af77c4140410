"""The processes of a running service, by what they are."""

from __future__ import annotations

import contextlib

import psutil

KINDS = ("gateway", "worker", "valkey", "ledger reader")


def parts_of(supervisor: int) -> dict[str, psutil.Process]:
    """The living processes under ``tallyman serve`` by name: gateway n1, worker, …, valkey."""
    found = {}
    for child in psutil.Process(supervisor).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and (name := _name(child.cmdline())):
                found[name] = child
    return found


def _name(command: list[str]) -> str | None:
    if "api.gateway" in command:
        return f"gateway {command[command.index('api.gateway') + 1]}"
    if "api.worker" in command:
        return "worker"
    if "api.apart.child" in command:
        return "ledger reader"
    return "valkey" if any("valkey" in each for each in command) else None
