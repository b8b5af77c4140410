"""The worker process: its application over a unix socket, and the readers' threads.

Started by the supervisor as ``python -m api.worker``.
"""

from __future__ import annotations

import asyncio
import gc
import sys

import polars as pl
import pyarrow as pa
import structlog

from api.allocating import keep_freed
from api.application import create_app
from api.logs import configure_logs
from api.parts import Worker
from api.serving import make_server, new_runner, serve_until, stop_on_signals
from api.settings import Settings, read_settings
from api.version import VERSION
from api.wiring.worker import build_worker
from catalog.errors import DomainError
from ingest.warm import warm_extraction

log = structlog.get_logger()

COLLECT_AFTER = (100_000, 20, 20)
"""Rating makes objects by the hundred thousand and no cycles: at Python's default of 700 a third of
its time went into looking for some."""
SWITCH_S = 0.001
"""Who waits for the interpreter gets it so soon: at Python's default of 5 ms each short turn could
wait so long for a reader at a large page. Chosen when the ledger's reader was in this process."""
DRAIN_SHARE = 0.15  # of the whole time a stop may take: the gateways have drained before


async def run(worker: Worker, settings: Settings, *, version: str) -> None:
    """Serve until SIGTERM; then finish requests, stop the services, close what was opened."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    server = make_server(
        create_app(worker, version=version),
        limits=settings.limits,
        drain_s_max=settings.stop_s_max * DRAIN_SHARE,
        path=str(worker.socket),
        lifespan=True,
    )
    await serve_until(stop, [(server, None)])
    log.info("worker_stopped")


def _settle() -> None:
    """Do now what would hold the interpreter, or begin in the wrong thread, at some later time.

    pyarrow imports pandas, half a second, when the first array becomes numpy's; compiled code and
    its runtime are 80 MB; Polars' pool has the priority of whoever was first to need it; and the
    collector need not look again at what was imported.
    """
    pl.select(pl.lit(pl.Series([1, 0])).sort())
    pa.array([0]).to_numpy()
    warm_extraction()
    gc.collect()
    gc.freeze()


def main() -> None:
    """Run the worker."""
    settings = read_settings()
    configure_logs(settings, process="worker")
    keep_freed()
    gc.set_threshold(*COLLECT_AFTER)
    sys.setswitchinterval(SWITCH_S)
    try:
        worker = build_worker(settings)
        _settle()
        with new_runner() as runner:
            runner.run(run(worker, settings, version=VERSION))
    except DomainError as error:
        log.error("worker_failed", error=error.detail)  # noqa: TRY400  (its text says it all)
        sys.exit(1)


if __name__ == "__main__":
    main()
