"""The process of the ledger's reader, started by the worker as ``python -m api.apart.child``.

It has an interpreter and a Polars pool of its own, so that a balance never waits for a large page
of facts or for ClickHouse. It ends with the worker: when their connection does, and by the
kernel's hand where it could not notice that.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

import structlog

from api.allocating import keep_freed
from api.apart.messages import Answer, Asked, Copies, FromWorker, Question, State, ToWorker
from api.logs import configure_logs
from api.readers.ledger import LedgerReader
from api.settings import read_settings
from api.wiring.ledger import build_ledger
from catalog.errors import DomainError, Unavailable
from ingest.warm import warm_extraction

log = structlog.get_logger()

TELL_S = 0.05
ALIVE_S = 1.0
"""A state that does not change is told this often: the worker hears that somebody is there."""
COLLECT_AFTER = (50_000, 20, 20)
_PR_SET_PDEATHSIG = 1


class Conversation:
    """Answers the worker, and tells how the reader is. One thread listens, others may send."""

    def __init__(self, connection: Connection, reader: LedgerReader) -> None:
        self._connection = connection
        self._reader = reader
        self._sending = threading.Lock()
        """Also held from looking at the reader to telling it: no state is told late."""
        self._ended = threading.Event()

    def tell(self) -> None:
        """Tell the reader's state until the end, in this thread."""
        told, age_s = None, 0.0
        while not self._ended.wait(TELL_S):
            with self._sending:
                state, age_s = self._state(), age_s + TELL_S
                if state != told or age_s >= ALIVE_S:
                    self._send(state)
                    told, age_s = state, 0.0

    def listen(self, copied: Callable[[Copies], None]) -> None:
        """Take what the worker says until it has no more to say, in this thread."""
        try:
            while True:
                said: FromWorker = self._connection.recv()
                match said:
                    case Copies():
                        copied(said)
                    case Question(asked=Asked.REBUILD):
                        with self._sending:
                            self._reader.request_rebuild()
                            self._send(Answer(number=said.number))
                    case Question(asked=Asked.RECOUNT):
                        threading.Thread(
                            target=self._recount, args=(said.number,), name="recount", daemon=True
                        ).start()
        except (EOFError, ConnectionError):
            self._ended.set()

    def _recount(self, number: int) -> None:
        """Tell what differs. An error is answered in words that survive the way."""
        try:
            answer = Answer(number=number, value=self._reader.recount())
        except DomainError as error:
            answer = Answer(number=number, error=Unavailable(error.detail))
        except Exception as error:
            log.exception("recount_failed")
            said = f"it could not be recounted: {type(error).__name__}: {error}"
            answer = Answer(number=number, error=Unavailable(said))
        with self._sending:
            self._send(answer)

    def _state(self) -> State:
        reader = self._reader
        return State(
            positions=reader.positions(),
            failure=reader.failure,
            failures=reader.failed_steps,
            rebuilding=reader.rebuilding,
        )

    def _send(self, message: ToWorker) -> None:
        try:
            self._connection.send(message)
        except OSError:  # the worker is gone: whoever listens hears it, too
            self._ended.set()


def die_with(parent: int) -> None:
    """Be killed when ``parent``, who has started this process, ends: at once if it has."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def follow(connection: Connection) -> None:
    """Keep the ledger until the worker ends the conversation."""
    first: Copies = connection.recv()
    settings = read_settings()
    built = build_ledger(settings, copies=first)
    conversation = Conversation(connection, built.reader)
    warm_extraction()
    gc.collect()
    gc.freeze()
    built.reader.start()
    threading.Thread(target=conversation.tell, name="state", daemon=True).start()
    conversation.listen(built.copied)
    built.reader.stop()
    built.close()


def main() -> None:
    """Run the reader: ``child.py DESCRIPTOR PARENT``."""
    descriptor, parent = map(int, sys.argv[1:])
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to hear
    keep_freed()
    gc.set_threshold(*COLLECT_AFTER)
    configure_logs(read_settings(), process="ledger")
    try:
        with Connection(descriptor) as connection:
            follow(connection)
    except EOFError:
        return
    except DomainError as error:
        log.error("ledger_reader_failed", error=error.detail)  # noqa: TRY400  (its text says it all)
        sys.exit(1)


if __name__ == "__main__":
    main()
