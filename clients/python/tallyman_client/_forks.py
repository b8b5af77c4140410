"""What a forked child must not share with its parent: buffers, locks, connections."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something that can begin anew in a child."""

    def after_fork(self) -> None:
        """Forget what is the parent's."""


_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(one: Renewable) -> None:
    """From now on call ``one.after_fork()`` in every forked child, as long as it lives."""
    _living.add(one)


def _renew_all() -> None:
    for one in list(_living):
        one.after_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_renew_all)
