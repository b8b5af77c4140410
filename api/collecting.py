"""The garbage collector of a process that answers: what is here to stay is not looked at again.

A full collection looks through everything there is: with ten thousand customers' terms in memory
that stopped every answer for 100 ms. What survived one is set aside, so the next looks only at what
came since. A cycle that becomes garbage later stays, until :func:`look_again`.
"""

from __future__ import annotations

import gc
from typing import Any

_OLDEST = 2


def settle() -> None:
    """Collect now, and set aside what stays; from here on after every full collection."""
    gc.collect()
    gc.freeze()
    if _set_aside not in gc.callbacks:
        gc.callbacks.append(_set_aside)


def look_again() -> None:
    """Let the next full collection look at everything: something large may have gone."""
    gc.unfreeze()


def _set_aside(phase: str, info: dict[str, Any]) -> None:
    if phase == "stop" and info["generation"] == _OLDEST:
        gc.freeze()
