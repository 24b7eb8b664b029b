"""What is said about an object store that fails: loud at once, then one line a minute and kind.

An outage meets every partition and every fetch of an old offset; the metrics count them all, the log names one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

from tierlog.telemetry.logs import OncePerMinute


class RepeatedWarnings:
    """``say`` logs the first warning of its key, and then at most one a minute, with how many were left out."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._once = OncePerMinute()

    def say(self, log: Callable[..., Any], event: str, key: Hashable, **fields: object) -> None:
        """``log`` is a method of a logger; ``key`` what is the same warning among those of this event."""
        left_out = self._once.suppressed((event, key))
        if self._once.allow((event, key), self._now_s()):
            if left_out:
                fields["left_out"] = left_out
            log(event, **fields)


def kind_of(error: BaseException) -> str:
    """The error's name, which tells a timeout from a refusal where the store's own words do not."""
    return type(error).__name__
