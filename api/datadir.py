"""The data directory: who may use it, and whether it belongs to a sandbox."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from api.settings import Settings
from catalog.clock import Clock, to_micros, to_rfc3339
from catalog.errors import Conflict, InvalidRequest
from storage.clock import FileClock, open_clock

# Linux' sockaddr_un holds 107 bytes of path and a zero.
SOCKET_PATH_BYTES_MAX = 107
LONGEST_SOCKET = "run/" + "x" * 40 + ".sock"


class DataInUse(Conflict):
    """Another process holds the data directory."""

    code = "data_in_use"


class WrongKind(Conflict):
    """A sandbox's data was about to serve for real, or the other way round."""

    code = "wrong_kind_of_data"


class UnusablePath(InvalidRequest):
    """The directory cannot hold what has to be in it."""

    code = "unusable_path"


class ServiceLock:
    """``<data>/service.lock``, held while a service (or an offline command) works on the data.

    Children inherit it, so it is free only when every process of a service has ended.
    """

    def __init__(self, data: Path) -> None:
        """Take the lock.

        Raises:
            DataInUse: someone holds it.
        """
        data.mkdir(parents=True, exist_ok=True)
        self._path = data / "service.lock"
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self.descriptor, 32, 0).decode(errors="replace").strip() or "?"
            os.close(self.descriptor)
            raise DataInUse(
                f"another tallyman (process {holder}) is using the data in {data}"
            ) from error
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give this process's hold back."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def prepare_data(settings: Settings, say: Callable[[str], None]) -> Clock:
    """Make the directory's layout and answer its clock. The lock must be held.

    Raises:
        WrongKind: see there.
        UnusablePath: the path is too long for unix sockets.
        InvalidRequest: a new sandbox without ``--now``.
    """
    data = settings.data
    if len(os.fsencode(data.absolute() / LONGEST_SOCKET)) > SOCKET_PATH_BYTES_MAX:
        raise UnusablePath(f"the path of the data directory is too long for sockets: {data}")
    _check_kind(data, sandbox=settings.sandbox)
    if settings.sandbox:
        _set_clock(settings, say)
    # Sockets here are trusted without a key: only the owner may reach them.
    run = data / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    run.chmod(0o700)
    (data / "nodes").mkdir(exist_ok=True)
    _mark_instance(data / "instance")
    return open_clock(data, sandbox=settings.sandbox)


def instance_of(data: Path) -> str:
    """The identity of this directory, made once: its nodes' logs are no other's."""
    return (data / "instance").read_text().strip()


def _mark_instance(path: Path) -> None:
    if path.exists():
        return
    unfinished = path.with_name("instance.new")
    with unfinished.open("w") as file:
        file.write(secrets.token_hex(16) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def _check_kind(data: Path, *, sandbox: bool) -> None:
    is_sandbox = (data / "clock").exists()
    if is_sandbox and not sandbox:
        raise WrongKind(f"{data} belongs to a sandbox and never serves without --sandbox")
    if sandbox and not is_sandbox and (data / "nodes").exists():
        raise WrongKind(f"{data} holds real data and never serves with --sandbox")


def _set_clock(settings: Settings, say: Callable[[str], None]) -> None:
    path = settings.data / "clock"
    asked = None if settings.now is None else to_micros(settings.now)
    if not path.exists():
        if asked is None:
            raise InvalidRequest("a new sandbox needs --now: where its clock begins")
        FileClock.create(path, asked)
        return
    clock = FileClock(path)
    if asked is not None and asked > clock.now_us():
        clock.advance(asked)
    elif asked is not None and asked < clock.now_us():
        say(f"the sandbox's clock already stands at {to_rfc3339(clock.now_us())} and stays there")
