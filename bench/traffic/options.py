"""What ``locust -f bench/locustfile.py`` takes besides locust's own options."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from bench.traffic.verdict import DEFAULT_LIMITS


def add_options(parser: Any, **_: object) -> None:
    """Add them to locust's parser."""
    group = parser.add_argument_group("Tallyman (the key is TALLYMAN_KEY, with admin scope)")
    group.add_argument(
        "--pace", type=float, default=1.0, help="users work so much faster; 0: without a pause"
    )
    group.add_argument("--batch-events", type=int, default=200, help="events in a batch, about")
    group.add_argument("--customers", type=int, default=200, help="customers, named load-0 and on")
    group.add_argument("--limits", type=Path, default=DEFAULT_LIMITS, help="a TOML file")
    group.add_argument("--report", type=Path, default=Path("load-report"), help="a directory")
    group.add_argument(
        "--no-prepare", action="store_true", help="the catalog of the load is there already"
    )
    group.add_argument("--run-id", default=f"run-{uuid.uuid4().hex[:12]}", help="the run's name")
