"""Whether a run passed: each kind of request within its limits, and everything counted."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.traffic.samples import Samples, Tally, percentile_ms

DEFAULT_LIMITS = Path(__file__).with_name("limits.toml")


class InvalidLimits(ValueError):
    """A file of limits cannot be read as such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What one kind of request must keep to: its p99 in ms, and what share (0 to 1) may fail."""

    kind: str
    p99_ms: float
    failed_share: float

    def __post_init__(self) -> None:
        if not self.p99_ms > 0 or not 0 <= self.failed_share <= 1:
            raise InvalidLimits(f"not a limit: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one kind of request did. Latencies are NaN when nothing was answered."""

    kind: str
    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    limit: Limit | None

    @property
    def failed_share(self) -> float:
        """Failed over all."""
        return self.failed / self.requests if self.requests else 0.0

    @property
    def missed(self) -> str | None:
        """What limit was missed, in words; None for none."""
        if self.limit is None:
            return None
        if not self.requests:
            return "never asked for"
        if self.failed_share > self.limit.failed_share:
            return f"{self.failed_share:.2%} failed, {self.limit.failed_share:.2%} may"
        if math.isnan(self.p99_ms) or self.p99_ms > self.limit.p99_ms:
            return f"p99 {self.p99_ms:,.1f} ms, limit {self.limit.p99_ms:,.0f} ms"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was acknowledged to this run, beside what the service counts of it at the end.

    ``unanswered`` were sent and got no answer: each may count or not. ``counted`` is None when the
    service did not say in time.
    """

    what: str
    acknowledged: int
    unanswered: int
    counted: int | None

    @property
    def agrees(self) -> bool:
        """Whether no acknowledged one is lost and none was invented."""
        if self.counted is None:
            return False
        return self.acknowledged <= self.counted <= self.acknowledged + self.unanswered


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The whole run."""

    outcomes: Sequence[Outcome]
    counted: Sequence[Counted]
    besides: Sequence[str] = ()
    """What else was missed, a sentence each."""

    @property
    def passed(self) -> bool:
        """Every limit kept and every count right."""
        return not self.missed

    @property
    def missed(self) -> list[str]:
        """What was missed, a sentence each."""
        late = [f"{each.kind}: {each.missed}" for each in self.outcomes if each.missed]
        wrong = [
            f"{each.what}: {each.acknowledged:,} acknowledged, {each.unanswered:,} unanswered, "
            f"{'no answer' if each.counted is None else f'{each.counted:,}'} counted"
            for each in self.counted
            if not each.agrees
        ]
        return [*late, *wrong, *self.besides]


def read_limits(path: Path) -> list[Limit]:
    """The limits in a TOML file.

    Raises:
        InvalidLimits: it is not what ``limits.toml`` shows.
    """
    try:
        kinds = tomllib.loads(path.read_text())["kinds"]
        return [Limit(kind=kind, **given) for kind, given in kinds.items()]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InvalidLimits(f"{path}: {error}") from error


def judge(samples: Samples, limits: Sequence[Limit], counted: Sequence[Counted] = ()) -> Verdict:
    """Hold what was seen against the limits; kinds without one are listed all the same."""
    by_kind = {limit.kind: limit for limit in limits}
    kinds = [*by_kind, *(kind for kind in samples.kinds() if kind not in by_kind)]
    outcomes = [_outcome(samples, kind, by_kind.get(kind)) for kind in kinds]
    return Verdict(outcomes=outcomes, counted=counted)


def _outcome(samples: Samples, kind: str, limit: Limit | None) -> Outcome:
    histogram = samples.histogram(kind)
    failed = samples.total(Tally.FAILED, kind)
    return Outcome(
        kind=kind,
        requests=sum(histogram.values()) + failed,
        failed=failed,
        p50_ms=percentile_ms(histogram, 50),
        p99_ms=percentile_ms(histogram, 99),
        limit=limit,
    )
