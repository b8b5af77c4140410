"""One run as a locust process knows it: what was asked for, and what was seen."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from bench.traffic.samples import Samples, Tally

KEY_VARIABLE = "TALLYMAN_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The options every user needs, and where they note what happened.

    ``pace`` is how many times faster than their own pace users work; 0: as fast as answers come.
    """

    id: str
    key: str = field(repr=False)
    customers: int
    pace: float
    batch: int
    samples: Samples = field(default_factory=Samples)

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def count(self, tally: Tally, name: str, amount: int = 1) -> None:
        """Add to a tally of this second."""
        self.samples.count(int(time.time()), tally, name, amount)

    def saw(self, *, kind: str, ms: float, failed: bool) -> None:
        """Note one request."""
        second = int(time.time())
        if failed:
            self.samples.count(second, Tally.FAILED, kind)
        else:
            self.samples.answered(second, kind, ms)


def run_of(environment: Any) -> Run:
    """The run of a locust environment, made of its options when first asked for.

    On a worker of a distributed run the options are the master's, from the start of the test on.
    """
    found: Run | None = getattr(environment, "tallyman", None)
    options = environment.parsed_options
    if found is None or found.id != options.run_id:
        found = Run(
            id=options.run_id,
            key=os.environ.get(KEY_VARIABLE, ""),
            customers=options.customers,
            pace=options.pace,
            batch=options.batch_events,
        )
        environment.tallyman = found
    return found
