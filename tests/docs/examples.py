"""The examples of a page: fenced blocks, and whether an answer is what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ANYTHING = "…"
FENCE = re.compile(r"^```(\w+)?(?: (\d{3}))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the status after it (an answer's), where it begins."""

    language: str
    status: int
    text: str
    line: int


@dataclass(frozen=True)
class Request:
    """An ``http`` block."""

    method: str
    target: str
    headers: dict[str, str]
    body: str


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of ``page``, in order."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        yield Block(
            language=found[1] or "",
            status=int(found[2] or 200),
            text=found[3],
            line=text.count("\n", 0, found.start()) + 1,
        )


def read_request(block: Block) -> Request:
    """The request an ``http`` block shows. A body without a content type is JSON."""
    head, _, body = block.text.partition("\n\n")
    first, *lines = head.strip().split("\n")
    method, target = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    if body and "Content-Type" not in headers:
        headers["Content-Type"] = "application/json"
    return Request(method=method, target=target, headers=headers, body=body.rstrip("\n"))


def differences(shown: object, told: object, *, at: str = "$") -> list[str]:
    """Where an answer is not what the page shows.

    ``…`` is anything; at the end of a list or as a key, any more; inside a text, any characters.
    """
    if isinstance(shown, str) and ANYTHING in shown:
        pattern = ".*".join(map(re.escape, shown.split(ANYTHING)))
        same = shown == ANYTHING or re.fullmatch(pattern, str(told), re.DOTALL)
        return [] if same else [f"{at}: {shown!r} is {told!r}"]
    if isinstance(shown, dict) and isinstance(told, dict):
        return _in_objects(shown, told, at)
    if isinstance(shown, list) and isinstance(told, list):
        return _in_lists(shown, told, at)
    same = shown == told and type(shown) is type(told)
    return [] if same else [f"{at}: {shown!r} is {told!r}"]


def _in_objects(shown: dict, told: dict, at: str) -> list[str]:
    named = {name: value for name, value in shown.items() if name != ANYTHING}
    found = [f"{at}.{name} is not there" for name in named if name not in told]
    if ANYTHING not in shown:
        found += [f"{at}.{name} is not shown" for name in told if name not in named]
    for name in named.keys() & told.keys():
        found += differences(named[name], told[name], at=f"{at}.{name}")
    return found


def _in_lists(shown: list, told: list, at: str) -> list[str]:
    open_ended = bool(shown) and shown[-1] == ANYTHING
    shown = shown[:-1] if open_ended else shown
    if len(told) < len(shown) or (len(told) > len(shown) and not open_ended):
        return [f"{at} has {len(told)} items, not {len(shown)}: {told!r}"]
    return [
        each
        for index, value in enumerate(shown)
        for each in differences(value, told[index], at=f"{at}[{index}]")
    ]
