"""The load of a whole business, against any deployment; a verdict and a report at the end.

    TALLYMAN_KEY=… locust -f bench/locustfile.py --headless -u 60 -r 20 -t 2m --host http://…

Ends with 1 when a limit was missed (``--limits``), or when the service does not count what it
acknowledged. ``--processes 4`` or locust's ``--master`` and ``--worker`` share the work.
``make load`` does all of it against a service of its own. The report is in ``--report``.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # locust adds the file's folder only

from locust import events
from locust.runners import WorkerRunner

from bench.traffic.ending import conclude
from bench.traffic.options import add_options
from bench.traffic.run import run_of
from bench.traffic.samples import Samples
from bench.traffic.service import NotPrepared, client_of, prepare
from bench.traffic.users import Finance, Operator, PostsBatches, PostsOne, RequestPath
from bench.traffic.verdict import InvalidLimits, read_limits

__all__ = ["Finance", "Operator", "PostsBatches", "PostsOne", "RequestPath"]

STOP_TIMEOUT_S = 60.0
EXIT_REFUSED = 2

events.init_command_line_parser.add_listener(add_options)


@events.init.add_listener
def begin(environment: Any, **_: object) -> None:
    """Check what can be checked before anything is loaded, and prepare the service."""
    options = environment.parsed_options
    environment.stop_timeout = environment.stop_timeout or STOP_TIMEOUT_S
    if isinstance(environment.runner, WorkerRunner):
        return
    run = run_of(environment)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        read_limits(options.limits)
        with client_of(environment.host, run) as client:
            prepare(client, run, apply=not options.no_prepare)
    except (InvalidLimits, NotPrepared) as error:
        print(f"locustfile: {error}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)


@events.test_start.add_listener
def started(environment: Any, **_: object) -> None:
    """Note every request from now on."""

    def note(name: str, response_time: float, exception: object, **_: object) -> None:
        run_of(environment).saw(kind=name, ms=response_time, failed=exception is not None)

    environment.events.request.add_listener(note)

    def report(data: dict[str, Any], **_: object) -> None:
        run = run_of(environment)
        data["tallyman"] = run.samples.to_json()
        run.samples.clear()

    environment.events.report_to_master.add_listener(report)


@events.init.add_listener
def gather(environment: Any, **_: object) -> None:
    """Add up what the workers of a distributed run report."""

    def reported(data: dict[str, Any], **_: object) -> None:
        if seen := data.pop("tallyman", None):
            run_of(environment).samples.add(Samples.of_json(seen))

    environment.events.worker_report.add_listener(reported)


@events.quitting.add_listener
def ending(environment: Any, **_: object) -> None:
    """Stop, judge, write the report, and say how to exit."""
    if not isinstance(environment.runner, WorkerRunner):
        conclude(environment)
