"""A value that is looked up at most every so often."""

from __future__ import annotations

import itertools
import time

from api.recent import Recent


def test_it_looks_again_only_when_what_it_has_is_old() -> None:
    """Two calls at once cost one look; a call later costs another."""
    counter = itertools.count()
    recent = Recent(lambda: next(counter), age_s_max=0.05)
    assert [recent(), recent()] == [0, 0]
    time.sleep(0.06)
    assert recent() == 1
